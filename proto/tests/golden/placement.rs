//! Golden values of placement and of what `maglica watch` hears.

use maglica_proto::{
    fault::Code,
    inventory::DomainState,
    job::{CloneSpec, CloneTask, JobSpec, JobState, Task},
    news::{HostNews, News, NewsCursor, NewsItem, VmNews},
    placement::{Considered, Placement, Verdict},
    request::{Answer, Presence, Request},
};

use super::fixtures::{at, bare_spec, clone_task, covers, fault, gib, job_row, name, uuid};

fn apart() -> CloneSpec {
    CloneSpec { anti_affinity: Some(name("web")), ..bare_spec() }
}

pub(crate) fn specs() -> Vec<(&'static str, JobSpec)> {
    vec![("clone-apart", JobSpec::Clone(apart()))]
}

pub(crate) fn tasks() -> Vec<(&'static str, Task)> {
    vec![("clone-apart", Task::Clone(CloneTask { disk: Some(gib(3)), ..clone_task(apart()) }))]
}

fn cursor() -> NewsCursor {
    NewsCursor { feed: uuid(), next: 4711 }
}

pub(crate) fn requests() -> Vec<(&'static str, Request)> {
    vec![
        ("place", Request::Place { spec: apart() }),
        ("watch", Request::Watch { after: Some(cursor()), wait_ms: 25_000 }),
        ("watch-first", Request::Watch { after: None, wait_ms: 25_000 }),
    ]
}

fn considered(verdict: Verdict) -> Considered {
    Considered {
        host: name("host0.example.jp"),
        verdict,
        presence: Presence::Up,
        score_centi: 150,
        active: 3,
        weight: 20,
        memory_free: gib(4),
        cpus: Some(8),
        vcpus: 6,
        pool: Some(name("default")),
        pool_free: Some(gib(90)),
    }
}

fn items() -> Vec<NewsItem> {
    let vm = |change| News::Vm { name: name("vm0.example.jp"), host: name("host0.example.jp"), image: false, change };
    let host = |change| News::Host { host: name("host0.example.jp"), change };
    let changes = [
        VmNews::Appeared { state: DomainState::Off },
        VmNews::State { from: DomainState::Off, to: DomainState::Running },
        VmNews::Gone,
        VmNews::Other,
    ];
    covers!(changes, "appeared" => VmNews::Appeared { .. }, "state" => VmNews::State { .. }, "gone" => VmNews::Gone,
        "other" => VmNews::Other);
    let of_hosts = [HostNews::Joined, HostNews::Left, HostNews::Presence { presence: Presence::Down }, HostNews::Other];
    covers!(of_hosts, "joined" => HostNews::Joined, "left" => HostNews::Left, "presence" => HostNews::Presence { .. },
        "other" => HostNews::Other);
    let job = News::Job { job: Box::new(job_row(JobState::Running)) };
    let all = std::iter::once(job).chain(changes.into_iter().map(vm)).chain(of_hosts.into_iter().map(host));
    all.map(|news| NewsItem { at: at(7), news }).collect()
}

pub(crate) fn answers() -> Vec<(&'static str, Answer)> {
    let refused = Verdict::Refused { code: Code::NoRoom, reason: "it has 1.0 GiB of memory free".to_owned() };
    let verdicts = [Verdict::Chosen, Verdict::Possible, refused];
    covers!(verdicts, "chosen" => Verdict::Chosen, "possible" => Verdict::Possible, "refused" => Verdict::Refused { .. });
    let bare = Considered { cpus: None, pool: None, pool_free: None, ..considered(Verdict::Possible) };
    let placement = Placement {
        considered: verdicts.into_iter().map(considered).chain([bare]).collect(),
        unlisted: 0,
        fault: None,
    };
    let nowhere = Placement { considered: Vec::new(), unlisted: 7, fault: Some(fault()) };
    vec![
        ("placement", Answer::Placement(Box::new(placement))),
        ("placement-nowhere", Answer::Placement(Box::new(nowhere))),
        ("news", Answer::News { items: items(), next: cursor(), missed: true }),
        ("news-none", Answer::News { items: Vec::new(), next: cursor(), missed: false }),
    ]
}
