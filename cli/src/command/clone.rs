//! `maglica vm clone`: the options, and everything about them that can be checked here.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use clap::{ArgAction, Args};
use maglica_proto::{
    job::{CloneSpec, Customization},
    name::{DomainName, GroupName, GuestName, HostName, PoolName},
    net::IpPrefix,
};

use crate::{
    error::Error,
    input::{self, network::network, password, seconds, ssh_key},
};

/// Options of `vm clone`.
#[derive(Debug, Args)]
pub struct Clone {
    /// The image to clone, or another virtual machine that is off.
    #[arg(long, value_name = "IMAGE")]
    image: DomainName,
    /// The new machine's host name, which becomes its name as well.
    #[arg(long, visible_alias = "name", value_name = "NAME", allow_hyphen_values = true)]
    hostname: GuestName,
    /// The host to make it on, instead of the one with the least load.
    #[arg(long, value_name = "HOST")]
    on: Option<HostName>,
    /// Keep it off every host that has a machine of this group.
    #[arg(long, value_name = "GROUP")]
    anti_affinity: Option<GroupName>,
    /// Say where it would be made, and why not on the other hosts; make nothing.
    #[arg(long, conflicts_with_all = ["detach", "wait"])]
    pub(super) dry_run: bool,
    /// The storage pool to put its disks into.
    #[arg(long, value_name = "POOL")]
    pool: Option<PoolName>,
    /// Leave the guest's files as they are: host name, machine-id and ssh host keys stay the image's.
    #[arg(long, conflicts_with_all = ["ip", "gateway", "dns", "ssh_key", "root_password_file"])]
    no_customize: bool,
    /// A fixed address instead of DHCP.
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    ip: Option<IpPrefix>,
    /// The default route; needs --ip.
    #[arg(long, value_name = "ADDRESS")]
    gateway: Option<IpAddr>,
    /// A name server; may be repeated; needs --ip.
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    dns: Vec<IpAddr>,
    /// A file of public keys that may log in as root; may be repeated.
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<PathBuf>,
    /// A file with root's password in its first line. Only its hash leaves this machine.
    #[arg(long, value_name = "FILE")]
    root_password_file: Option<PathBuf>,
    /// Leave it off.
    #[arg(long, conflicts_with = "start")]
    no_start: bool,
    /// Whether to start it.
    #[arg(long, value_name = "0|1", num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set, value_parser = truth)]
    start: Option<bool>,
    /// Wait until the guest's agent answers, and print its addresses.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "300", value_parser = input::duration)]
    wait: Option<Duration>,
    /// Print the job's id and do not wait.
    #[arg(long, visible_alias = "no-wait")]
    pub(super) detach: bool,
}

fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("write 1, true, 0 or false".to_owned()),
    }
}

impl Clone {
    /// What is sent, checked as far as that can be done here.
    ///
    /// # Errors
    /// [`Error::Usage`], [`Error::Input`] or [`Error::File`].
    pub(super) fn spec(self) -> Result<CloneSpec, Error> {
        let start = !self.no_start && self.start.unwrap_or(true);
        if self.wait.is_some() && !start {
            return Err(Error::Usage("--wait makes no sense for a machine that is not started".into()));
        }
        if self.image.as_str() == self.hostname.as_str() {
            return Err(Error::Usage("the new machine must have another name than its image".into()));
        }
        let customize = if self.no_customize {
            None
        } else {
            let mut ssh_keys = Vec::new();
            for path in &self.ssh_key {
                ssh_keys.extend(ssh_key::read(path)?);
            }
            let root_password_hash = self.root_password_file.as_deref().map(password::read).transpose()?;
            Some(Customization { network: network(self.ip, self.gateway, self.dns)?, ssh_keys, root_password_hash })
        };
        Ok(CloneSpec {
            image: self.image,
            name: self.hostname,
            on: self.on,
            anti_affinity: self.anti_affinity,
            pool: self.pool,
            customize,
            start,
            wait_s: self.wait.map(seconds),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use maglica_proto::job::Network;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        clone: Clone,
    }

    fn spec(options: &str) -> Result<CloneSpec, String> {
        let words = ["clone", "--image=a.original", "--hostname", "vm0.example.jp"]
            .into_iter()
            .chain(options.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.clone.spec().map_err(|error| error.to_string())
    }

    #[test]
    fn without_options_the_machine_is_customized_for_dhcp_and_started() {
        let spec = spec("").unwrap();
        assert_eq!(
            (spec.image.as_str(), spec.name.as_str(), spec.start, spec.wait_s),
            ("a.original", "vm0.example.jp", true, None)
        );
        assert_eq!(spec.customize.unwrap().network, Network::Dhcp);
    }

    #[test]
    fn start_is_accepted_as_the_old_tool_had_it() {
        for (options, start) in [
            ("--start", true),
            ("--start=1", true),
            ("--start true", true),
            ("--start=0", false),
            ("--start=false", false),
            ("--no-start", false),
        ] {
            assert_eq!(spec(options).unwrap().start, start, "{options}");
        }
        assert!(spec("--start=maybe").is_err());
        assert!(spec("--start=0 --wait").unwrap_err().contains("not started"));
    }

    #[test]
    fn wait_has_a_time_of_its_own_or_five_minutes() {
        assert_eq!(spec("--wait").unwrap().wait_s, Some(300));
        assert_eq!(spec("--wait=60").unwrap().wait_s, Some(60));
    }

    #[test]
    fn options_that_exclude_one_another_are_refused() {
        for options in [
            "--no-customize --ip=10.0.0.2/24",
            "--no-customize --ssh-key=x",
            "--no-start --start=1",
            "--gateway=10.0.0.1",
            "--ip=10.0.0.2",
        ] {
            assert!(spec(options).is_err(), "{options}");
        }
        assert!(spec("--no-customize").unwrap().customize.is_none());
        assert!(spec("--ip=10.0.0.2/24 --gateway 10.0.0.1 --dns=10.0.0.1 --dns=10.0.0.3").is_ok());
    }
}
