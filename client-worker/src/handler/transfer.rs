//! Who may fetch what from whom: a job that runs is the grant, asked for at each connection, so that it ends with the job, and a
//! revoked key is let in nowhere from then on.

use maglica_proto::{
    fault::{Code, Fault},
    host::{Door, Visitor, Vouched},
    id::JobId,
    job::{ImageTask, Task},
    key::PublicKey,
    name::HostName,
};

use super::{Handlers, stopping};
use crate::{job::desk::Running, trust::Known};

impl Handlers {
    /// Where the host of this job is to fetch from.
    pub(super) async fn source(&self, host: &HostName, job: JobId) -> Result<Door, Fault> {
        let running = self.desk.running(job).await?;
        let Task::Image(ImageTask::Copy(copy)) = running.task else { return Err(nothing(job)) };
        if running.host != *host {
            return Err(nothing(job));
        }
        self.door(copy.from).await
    }

    /// Where a host takes connections.
    pub(super) async fn door(&self, host: HostName) -> Result<Door, Fault> {
        let key = self.trust.now().hosts().find(|(name, _)| **name == host).map(|(_, known)| known.key);
        let key = key.ok_or_else(|| {
            Fault::new(Code::NotFound, format!("the host {host} is not enrolled any more")).about(host.to_string())
        })?;
        let name = host.clone();
        let address = self.fleet.with(move |fleet| {
            fleet.host(&name).and_then(|entry| entry.inventory.as_ref()).and_then(|inventory| inventory.facts.transfer)
        });
        let address = address.await.ok_or_else(stopping)?.ok_or_else(|| {
            let message = format!("the host {host} takes no connections for transfers");
            Fault::new(Code::HostDown, message).about(host.to_string())
        })?;
        Ok(Door { host, address, key })
    }

    /// What somebody who dialled this host with this key may have; none: nothing.
    pub(super) async fn vouch(
        &self,
        host: &HostName,
        job: JobId,
        key: &PublicKey,
        role: Visitor,
    ) -> Result<Option<Vouched>, Fault> {
        let running = match self.desk.running(job).await {
            Ok(running) => running,
            Err(fault) if fault.code == Code::NotFound => return Ok(None),
            Err(fault) => return Err(fault),
        };
        let known = self.trust.lookup(key).ok();
        Ok(may_have(&running, host, role, known))
    }
}

/// The rule. Pure.
fn may_have(running: &Running, dialled: &HostName, role: Visitor, known: Option<Known>) -> Option<Vouched> {
    let Task::Image(task) = &running.task else { return None };
    match (role, known?) {
        (Visitor::Host, Known::Host(name)) => match task {
            ImageTask::Copy(copy) if name == running.host && copy.from == *dialled => {
                Some(Vouched::Image(copy.image.clone()))
            }
            ImageTask::Copy(_) | ImageTask::Mark(_) | ImageTask::Unmark(_) | ImageTask::Remove(_) => None,
        },
        (Visitor::Operator, Known::Operator(..))
        | (Visitor::Host, Known::Operator(..))
        | (Visitor::Operator, Known::Host(_)) => None,
    }
}

fn nothing(job: JobId) -> Fault {
    Fault::new(Code::WrongState, format!("job {job} fetches nothing here")).about(job.to_string())
}

#[cfg(test)]
mod tests {
    use maglica_proto::{
        job::{CopyTask, VmTask},
        name::{DomainName, OperatorName},
        request::Role,
    };
    use uuid::Uuid;

    use super::*;

    #[test]
    fn only_the_host_of_the_job_has_the_image_and_only_from_the_host_that_was_chosen() {
        let name = |name: &str| HostName::new(name).unwrap();
        let image = VmTask { name: DomainName::new("a.original").unwrap(), uuid: Uuid::nil() };
        let copy = CopyTask {
            image: image.clone(),
            from: name("source"),
            copy: Uuid::nil(),
            macs: Vec::new(),
            pool: None,
            rate: None,
            by: "root".to_owned(),
        };
        let running = |task| Running { task, host: name("dest"), by: "root".to_owned() };
        let (copying, marking) =
            (running(Task::Image(ImageTask::Copy(copy))), running(Task::Image(ImageTask::Mark(image.clone()))));
        let host = |host: &str| Some(Known::Host(name(host)));
        let allowed = may_have(&copying, &name("source"), Visitor::Host, host("dest"));
        assert_eq!(allowed, Some(Vouched::Image(image)));
        let root = Some(Known::Operator(OperatorName::new("root").unwrap(), Role::Admin));
        for (running, dialled, role, known) in [
            (&copying, "source", Visitor::Host, host("other")),
            (&copying, "source", Visitor::Host, host("source")),
            (&copying, "dest", Visitor::Host, host("dest")),
            (&copying, "other", Visitor::Host, host("dest")),
            (&copying, "source", Visitor::Operator, host("dest")),
            (&copying, "source", Visitor::Host, root.clone()),
            (&copying, "source", Visitor::Operator, root),
            (&copying, "source", Visitor::Host, None),
            (&marking, "source", Visitor::Host, host("dest")),
        ] {
            assert_eq!(may_have(running, &name(dialled), role, known), None, "{dialled} {role:?}");
        }
    }
}
