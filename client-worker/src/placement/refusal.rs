//! Why a host cannot have a clone.

use std::fmt;

use maglica_proto::{
    fault::Code,
    name::{DomainName, GroupName},
    request::{ImageState, Presence},
    units::ByteSize,
};

use super::{
    Candidate, Wish,
    room::{self, NoPool},
};

/// The reason. Its text goes on after the host's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another is asked for.
    NotAsked,
    /// It is not up.
    Absent(Presence),
    /// It does not have the image.
    NoImage { image: DomainName },
    /// The image runs there.
    ImageRuns { image: DomainName },
    /// The image cannot be cloned there.
    ImageBroken { image: DomainName, trouble: String },
    /// A machine of the group is there.
    Group { group: GroupName, member: DomainName },
    /// Too few processors.
    Cpus { wanted: u32, cpus: u32 },
    /// Too little memory.
    Memory { wanted: ByteSize, free: ByteSize },
    /// No pool can take the disks.
    Pool(NoPool),
}

impl Refusal {
    /// What kind of reason it is.
    pub(super) const fn code(&self) -> Code {
        match self {
            Self::NotAsked | Self::Group { .. } => Code::NoHost,
            Self::Absent(_) => Code::HostDown,
            Self::NoImage { .. } => Code::NotFound,
            Self::ImageRuns { .. } => Code::WrongState,
            Self::ImageBroken { .. } => Code::Unsupported,
            Self::Cpus { .. } | Self::Memory { .. } => Code::NoRoom,
            Self::Pool(why) => why.code(),
        }
    }

    /// What it is about, if not the image.
    pub(super) fn object(&self) -> Option<String> {
        match self {
            Self::Pool(why) => Some(why.pool().to_string()),
            Self::NotAsked
            | Self::Absent(_)
            | Self::NoImage { .. }
            | Self::ImageRuns { .. }
            | Self::ImageBroken { .. }
            | Self::Group { .. }
            | Self::Cpus { .. }
            | Self::Memory { .. } => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAsked => write!(f, "another host is asked for"),
            Self::Absent(presence) => write!(f, "it is {}", presence.as_str()),
            Self::NoImage { image } => write!(f, "it has no image {image}"),
            Self::ImageRuns { image } => write!(f, "the image {image} is running there"),
            Self::ImageBroken { image, trouble } => write!(f, "the image {image} cannot be cloned: {trouble}"),
            Self::Group { group, member } => write!(f, "{member} of the group {group} is there"),
            Self::Cpus { wanted, cpus } => write!(f, "the machine wants {wanted} processors, there are {cpus}"),
            Self::Memory { wanted, free } => {
                write!(f, "the machine needs {wanted} of memory, {free} are free")
            }
            Self::Pool(why) => why.fmt(f),
        }
    }
}

/// Why a candidate cannot take it, if so.
pub(super) fn refusal(candidate: &Candidate, wish: &Wish<'_>) -> Option<Refusal> {
    if wish.on.is_some_and(|on| *on != candidate.name) {
        return Some(Refusal::NotAsked);
    }
    match candidate.presence {
        Presence::Up => {}
        absent @ (Presence::Suspect | Presence::Down | Presence::Pending) => return Some(Refusal::Absent(absent)),
    }
    let name = || wish.image.clone();
    let Some(image) = &candidate.image else { return Some(Refusal::NoImage { image: name() }) };
    match image.state {
        ImageState::Ready => {}
        ImageState::Running => return Some(Refusal::ImageRuns { image: name() }),
        ImageState::Broken => {
            let trouble = image.trouble.clone().unwrap_or_else(|| "it has no disk".to_owned());
            return Some(Refusal::ImageBroken { image: name(), trouble });
        }
    }
    if let (Some(group), Some(member)) = (wish.group, candidate.group.first()) {
        return Some(Refusal::Group { group: group.clone(), member: member.clone() });
    }
    if let Some(cpus) = candidate.cpus.filter(|cpus| *cpus < image.vcpus) {
        return Some(Refusal::Cpus { wanted: image.vcpus, cpus });
    }
    if wish.start && image.memory > candidate.memory_free {
        return Some(Refusal::Memory { wanted: image.memory, free: candidate.memory_free });
    }
    room::choose(&candidate.pools, image, wish.pool).err().map(Refusal::Pool)
}
