//! The last phase, if asked for: waits until the guest's agent answers and asks it who it is.

use std::{net::IpAddr, time::Duration};

use maglica_proto::{
    fault::{Code, Fault},
    job::{CloneTask, GuestAnswer},
};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::describe;
use crate::{
    hypervisor::{HypervisorError, LOOK_LIMIT, domain_xml::guest_address},
    task::{TaskContext, cancelled},
};

/// How long one question to the agent may take, in seconds: a busy emulated guest needs one or two.
const ANSWER_LIMIT_S: i32 = 5;
/// How often it is asked: one call of libvirt's, which the agent's absence answers at once.
const ASK_EVERY: Duration = Duration::from_secs(1);

#[derive(Deserialize)]
struct Answer<T> {
    #[serde(rename = "return")]
    value: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct HostNameAnswer {
    host_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct InterfaceAnswer {
    #[serde(default)]
    ip_addresses: Vec<AddressAnswer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct AddressAnswer {
    ip_address: String,
}

/// Waits for at most `wait_s` seconds. A guest that stays silent is no failure; one that goes off is.
pub(super) async fn wait(task: &CloneTask, wait_s: u32, cx: &TaskContext) -> Result<(GuestAnswer, String), Fault> {
    let until = Instant::now() + Duration::from_secs(wait_s.into());
    let mut heard = None;
    loop {
        match ask(task, cx).await {
            Ok(answer) => {
                let complete = matches!(&answer, GuestAnswer::Up { addresses, .. } if !addresses.is_empty());
                heard = Some(answer);
                // The agent can be up before the network is.
                if complete {
                    break;
                }
            }
            Err(error) => {
                still_on(task, cx).await?;
                tracing::debug!(job = %cx.job, %error, "the guest's agent does not answer yet");
            }
        }
        if Instant::now() >= until {
            break;
        }
        tokio::select! {
            () = cx.cancel.cancelled() => return Err(cancelled()),
            () = sleep(ASK_EVERY) => {}
        }
    }
    let answer = heard.unwrap_or(GuestAnswer::Silent { waited_s: wait_s });
    let note = describe(&answer);
    Ok((answer, note))
}

async fn ask(task: &CloneTask, cx: &TaskContext) -> Result<GuestAnswer, HypervisorError> {
    let uuid = task.uuid;
    let (name, interfaces) = cx
        .host
        .call(format!("asking the guest {}", task.spec.name), LOOK_LIMIT, move |hypervisor| {
            let ask = |command| hypervisor.agent(uuid, command, ANSWER_LIMIT_S);
            ask(r#"{"execute":"guest-ping"}"#)?;
            Ok((ask(r#"{"execute":"guest-get-host-name"}"#)?, ask(r#"{"execute":"guest-network-get-interfaces"}"#)?))
        })
        .await?;
    read(&name, &interfaces).map_err(|error| HypervisorError::Refused {
        doing: format!("reading the answer of the guest {}", task.spec.name),
        why: error.to_string(),
    })
}

fn read(name: &str, interfaces: &str) -> Result<GuestAnswer, serde_json::Error> {
    let name: Answer<HostNameAnswer> = serde_json::from_str(name)?;
    let interfaces: Answer<Vec<InterfaceAnswer>> = serde_json::from_str(interfaces)?;
    let addresses: Vec<IpAddr> = interfaces
        .value
        .iter()
        .flat_map(|interface| &interface.ip_addresses)
        .filter_map(|address| guest_address(&address.ip_address))
        .collect();
    Ok(GuestAnswer::Up { hostname: name.value.host_name, addresses })
}

async fn still_on(task: &CloneTask, cx: &TaskContext) -> Result<(), Fault> {
    let uuid = task.uuid;
    let state =
        cx.host.look(format!("looking at {}", task.spec.name), move |hypervisor| hypervisor.state(uuid)).await?;
    if state.is_active() {
        return Ok(());
    }
    Err(Fault::new(Code::WrongState, format!("{} went off while its guest was waited for", task.spec.name))
        .about(task.spec.name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agents_answers_are_read_without_loopback_and_link_local_addresses() {
        // As qemu-guest-agent 7.2 of Debian 12 gives them.
        let name = r#"{"return":{"host-name":"vm0.example.jp"}}"#;
        let interfaces = r#"{"return":[
            {"name":"lo","ip-addresses":[{"ip-address-type":"ipv4","ip-address":"127.0.0.1","prefix":8}],
             "hardware-address":"00:00:00:00:00:00"},
            {"name":"enp1s0","ip-addresses":[
               {"ip-address-type":"ipv4","ip-address":"192.168.122.50","prefix":24},
               {"ip-address-type":"ipv6","ip-address":"fe80::5054:ff:fe6b:3c58","prefix":64}],
             "hardware-address":"52:54:00:6b:3c:58"},
            {"name":"enp2s0","hardware-address":"52:54:00:6b:3c:59"}]}"#;
        assert_eq!(
            read(name, interfaces).unwrap(),
            GuestAnswer::Up {
                hostname: "vm0.example.jp".to_owned(),
                addresses: vec!["192.168.122.50".parse().unwrap()],
            }
        );
        assert!(read("{}", interfaces).is_err());
    }
}
