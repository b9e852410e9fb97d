//! What is said of jobs about images.

use maglica_proto::{
    job::{ImageOutcome, ImageSpec},
    name::{DomainName, HostName},
};

pub(super) fn title(spec: &ImageSpec, host: &HostName) -> String {
    match spec {
        ImageSpec::Mark(image) => format!("mark {} on {host} as an image", image.name),
        ImageSpec::Unmark(image) => format!("unmark the image {} on {host}", image.name),
        ImageSpec::Copy(copy) => format!("copy the image {} to {host}", copy.image.name),
        ImageSpec::Remove(image) => format!("remove the image {} from {host}", image.name),
    }
}

pub(crate) fn outcome(image: &DomainName, host: &HostName, outcome: &ImageOutcome) -> String {
    match outcome {
        ImageOutcome::Marked { already: false } => format!("{image} on {host} is an image"),
        ImageOutcome::Marked { already: true } => format!("{image} on {host} was an image already"),
        ImageOutcome::Unmarked { already: false } => format!("{image} on {host} is a virtual machine"),
        ImageOutcome::Unmarked { already: true } => format!("{image} on {host} was no image"),
        ImageOutcome::Copied { from, size, pool, .. } => {
            format!("{image} is on {host} as well: {size} from {from}, in pool {pool}")
        }
        ImageOutcome::Removed { volumes, kept } => super::removed(image, host, volumes, kept),
    }
}
