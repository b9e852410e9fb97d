//! The jobs that are not over, to be found by id, by host and by machine. A search through thousands of them at every
//! heartbeat and submission would cost more than what it is for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use maglica_proto::{
    id::JobId,
    name::{DomainName, HostName},
};

use crate::job::record::JobRecord;

/// The jobs. A record's host and machine never change.
#[derive(Debug, Default)]
pub(super) struct Live {
    records: BTreeMap<JobId, JobRecord>,
    by_host: HashMap<HostName, BTreeSet<JobId>>,
    by_vm: HashMap<DomainName, BTreeSet<JobId>>,
}

impl Live {
    pub(super) fn new(records: impl IntoIterator<Item = JobRecord>) -> Self {
        let mut live = Self::default();
        records.into_iter().for_each(|record| live.insert(record));
        live
    }

    pub(super) fn get(&self, id: JobId) -> Option<&JobRecord> {
        self.records.get(&id)
    }

    pub(super) fn get_mut(&mut self, id: JobId) -> Option<&mut JobRecord> {
        self.records.get_mut(&id)
    }

    /// Adds a job, or puts it in the place of what it was.
    pub(super) fn insert(&mut self, record: JobRecord) {
        self.by_host.entry(record.host.clone()).or_default().insert(record.id);
        for name in record.spec.names() {
            self.by_vm.entry(name).or_default().insert(record.id);
        }
        self.records.insert(record.id, record);
    }

    pub(super) fn remove(&mut self, id: JobId) {
        if let Some(record) = self.records.remove(&id) {
            leave(&mut self.by_host, &record.host, id);
            for name in record.spec.names() {
                leave(&mut self.by_vm, &name, id);
            }
        }
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &JobRecord> {
        self.records.values()
    }

    /// The jobs of a host, oldest first.
    pub(super) fn of_host(&self, host: &HostName) -> Vec<JobId> {
        self.by_host.get(host).into_iter().flatten().copied().collect()
    }

    /// The jobs about machines that have or get this name.
    pub(super) fn about(&self, vm: &DomainName) -> impl Iterator<Item = &JobRecord> {
        self.by_vm.get(vm).into_iter().flatten().filter_map(|id| self.records.get(id))
    }
}

fn leave<K: std::hash::Hash + Eq>(index: &mut HashMap<K, BTreeSet<JobId>>, key: &K, id: JobId) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use maglica_proto::job::{JobSpec, Task, VmRef, VmTask};

    use super::*;
    use crate::job::record::NewJob;

    fn record(vm: &str, host: &str) -> JobRecord {
        let (name, host) = (DomainName::new(vm).unwrap(), HostName::new(host).unwrap());
        let task = Task::Start(VmTask { name: name.clone(), uuid: uuid::Uuid::nil() });
        let spec = JobSpec::Start(VmRef { name, host: None });
        let new =
            NewJob { id: JobId::generate(), spec, task, host, why: Vec::new(), by: "root".into(), reachable: true };
        JobRecord::new(new, maglica_proto::units::Timestamp::from_millis(0))
    }

    #[test]
    fn a_machine_that_is_being_renamed_holds_both_names() {
        use maglica_proto::job::VmChange;

        let mut renamed = record("vm1", "h1");
        let JobSpec::Start(vm) = renamed.spec.clone() else { panic!("it starts") };
        renamed.spec = JobSpec::Change { vm, change: VmChange::Rename { to: "vm2".parse().unwrap() } };
        let mut live = Live::new([renamed.clone()]);
        for name in ["vm1", "vm2"] {
            assert_eq!(live.about(&name.parse().unwrap()).count(), 1, "{name}");
        }
        live.remove(renamed.id);
        assert!(live.by_vm.is_empty());
    }

    #[test]
    fn a_job_is_found_by_host_and_machine_until_it_goes() {
        let (first, second) = (record("vm1", "h1"), record("vm1", "h2"));
        let mut live = Live::new([first.clone(), second.clone()]);
        assert_eq!(live.of_host(&first.host), [first.id]);
        assert_eq!(live.about(&first.spec.vm()).count(), 2);
        live.insert(first.clone());
        assert_eq!(live.values().count(), 2, "the same job in its own place");
        live.remove(first.id);
        assert!(live.get(first.id).is_none() && live.of_host(&first.host).is_empty());
        assert_eq!(live.about(&first.spec.vm()).map(|record| record.id).collect::<Vec<_>>(), [second.id]);
        live.remove(second.id);
        live.remove(second.id);
        assert!(live.by_host.is_empty() && live.by_vm.is_empty());
    }
}
