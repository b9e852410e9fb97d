//! Puts the client worker together: key, register, store, sockets, gates, tasks; tells systemd; takes it down in order.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Context;
use maglica_proto::{
    config::{Config, folder},
    fault::chain,
    job::JobRow,
    key::PublicKey,
    news::News,
    units::Timestamp,
};
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Mutex, mpsc},
};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::Audit,
    bus::{
        self, Bus,
        port::{PubPort, RepPort},
        refused::Refused,
    },
    console::Consoles,
    fleet::{Fleet, FleetState, Limits, state::Enrolled},
    gate::{self, Gate, GateLimits, PortKind},
    handler::{Handlers, room, status::Since},
    job::{Desk, delivery::Delivery, store::SqliteStore},
    local,
    news::Feed,
    ping::Pings,
    serial_log::Logs,
    trust::{Register, ServerKeys, Trust, register::rotation::Taker},
};

/// How many hosts that went down may wait to be told to the job desk.
const DOWN_QUEUE: usize = 256;
/// How many that used the client worker's next key may wait to be noted.
const TAKERS: usize = 1024;
/// The pause after the register could not be stored.
const TAKERS_PAUSE: Duration = Duration::from_secs(1);
/// How often old jobs are forgotten.
const EXPIRE_EVERY: Duration = Duration::from_secs(6 * 3600);
/// The pause between two portions of them, in which the desk does what it is there for.
const EXPIRE_PAUSE: Duration = Duration::from_millis(50);
/// How long requests under way may take to end when the client worker stops.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs until a signal to stop.
///
/// # Errors
/// What kept it from starting, or ended it.
pub async fn run(config: Config) -> anyhow::Result<()> {
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let stop = CancellationToken::new();
    let serving = stop.child_token();
    let keys = local::server_keys(&config)?;
    let state = local::state_dir(&config);
    let _lock = folder::lock(&state, "client worker")?;
    let trust = Trust::open(state.join("trust.json"))?;
    let (audit, audit_thread) = Audit::start(&state, keys.now().newest().fingerprint(), serving.clone())?;
    let (present, next, written) = (keys.now().present.public(), keys.next(), keys.written());
    trust
        .change(|register| {
            register.follow_server(present, next, written, SystemTime::now().into());
            Ok(())
        })
        .await?;
    local::enrol_root(&config, keys.now().newest(), &trust, &audit).await?;

    let store = SqliteStore::open(&state.join("jobs.db"))?;
    let news = Feed::start();
    let of_jobs = news.clone();
    let tell = move |mut rows: Vec<JobRow>| {
        rows.iter_mut().for_each(room::brief);
        of_jobs.tell(rows.into_iter().map(|job| News::Job { job: Box::new(job) }).collect());
    };
    let (desk, desk_thread) = Desk::start(Box::new(store), config.jobs.keep, tell)?;
    let (down, went_down) = mpsc::channel(DOWN_QUEUE);
    let limits = Limits { suspect_after: config.timing.suspect, down_after: config.timing.down };
    let fleet = Fleet::start(FleetState::new(limits, Instant::now()), down, news.clone(), serving.clone());
    let (publisher, publish_queue) = bus::publisher();
    let (of_consoles, of_logs) = (publisher.clone(), publisher.clone());
    let consoles = Consoles::start(move |host, broadcast| of_consoles.publish(host, broadcast));
    let logs = Logs::start(move |host, broadcast| of_logs.publish(host, broadcast));
    let delivery = Delivery::start(desk.clone(), publisher, config.timing.offer_first, serving.clone());

    let run_dir = folder::private(config.run_dir.join("client-worker"))?;
    if let Err(error) = gate::raise_file_limit(config.listen.max_connections) {
        tracing::warn!(error = chain(&error), "cannot raise the limit of open files; fewer connections will be taken");
    }
    let rep = RepPort::bind(&run_dir.join("rep.sock")).await?;
    let published = PubPort::bind(&run_dir.join("pub.sock")).await?;
    let gates = [
        open_gate(&config, &config.listen.rep_addr(), PortKind::Rep, &run_dir.join("rep.sock")).await?,
        open_gate(&config, &config.listen.pub_addr(), PortKind::Pub, &run_dir.join("pub.sock")).await?,
    ];
    let here = reachable_here(gates[0].local_addr()?);
    local::invite_local_host(&config, keys.now().newest(), &trust, &audit, here.clone()).await?;
    tracing::info!(
        rep = %gates[0].local_addr()?,
        publish = %gates[1].local_addr()?,
        fingerprint = %keys.now().present.public().fingerprint(),
        version = env!("CARGO_PKG_VERSION"),
        "client worker is up"
    );

    let (outgoing, to_publish) = bus::outgoing();
    let counted = |port, gate: &Gate| (port, gate.counters());
    let refused: Arc<Refused> = Arc::default();
    let handlers = Arc::new(Handlers {
        consoles: consoles.clone(),
        logs,
        pings: Pings::start(),
        news: news.clone(),
        gates: vec![counted("ask", &gates[0]), counted("publish", &gates[1])],
        keys: keys.clone(),
        since: Since::now(),
        desk: desk.clone(),
        delivery,
        fleet: fleet.clone(),
        trust: trust.clone(),
        audit: audit.clone(),
        config: config.clone(),
        placing: Mutex::new(()),
        refused: refused.clone(),
    });
    let (takers, took) = mpsc::channel(TAKERS);
    tokio::spawn(note_takers(took, trust.clone()));
    tokio::spawn(follow_keys(keys.clone(), config.clone(), trust.clone(), audit.clone(), here, serving.clone()));
    let bus = Bus {
        keys,
        trust: trust.clone(),
        rep,
        answerer: handlers,
        publish: publish_queue,
        outgoing,
        refused,
        takers,
        gate: gates[0].handle(),
    };
    let mut bus_task = tokio::spawn(bus.run(serving.clone()));
    let mut publish_task = tokio::spawn(bus::publish(published, to_publish, config.timing.beat, serving.clone()));
    tokio::spawn(follow_register(trust, fleet.clone(), desk.clone(), config.clone(), serving.clone()));
    tokio::spawn(follow_silence(went_down, desk.clone(), serving.clone()));
    tokio::spawn(forget_old_jobs(desk.clone(), config.jobs.keep, serving.clone()));
    for gate in gates {
        tokio::spawn(gate.run(serving.clone()));
    }
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 3);
    notify(&[NotifyState::Ready]);

    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let ended = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            // The desk answering is what "alive" means: it is the one that nothing goes on without.
            () = tokio::time::sleep(watchdog.unwrap_or(Duration::MAX)), if watchdog.is_some() => {
                if desk.unanswered().await.is_ok() {
                    notify(&[NotifyState::Watchdog]);
                }
            }
            ended = &mut bus_task => break ended.context("the bus task")?.context("the asking port failed"),
            ended = &mut publish_task => break ended.context("the publishing task")?.context("the publishing port failed"),
        }
    };
    tracing::info!("client worker is stopping");
    notify(&[NotifyState::Stopping]);
    desk.stop().await;
    news.stop().await;
    consoles.stop().await;
    stop.cancel();
    // The last handle to the desk goes when its requests have been answered; then its thread has stored everything.
    drop((desk, fleet, audit));
    let drained = tokio::task::spawn_blocking(move || desk_thread.join().is_ok() && audit_thread.join().is_ok());
    if tokio::time::timeout(DRAIN, drained).await.is_err() {
        tracing::warn!("requests under way were cut off");
    }
    ended
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(error = chain(&error), "cannot notify systemd");
    }
}

async fn open_gate(config: &Config, address: &str, kind: PortKind, inner: &Path) -> anyhow::Result<Gate> {
    let resolved: SocketAddr = tokio::net::lookup_host(address)
        .await
        .with_context(|| format!("cannot resolve the address to listen on, {address}"))?
        .next()
        .with_context(|| format!("{address}, the address to listen on, has no address"))?;
    let limits = GateLimits {
        max_connections: config.listen.max_connections,
        max_per_address: config.listen.max_connections_per_address,
        max_per_loopback: config.listen.max_connections_per_address.max(GateLimits::default().max_per_loopback),
        allow: config.listen.allow.clone(),
        // A subscriber proves nothing, and the oldest are hosts.
        displace: kind == PortKind::Rep,
        ..GateLimits::default()
    };
    Gate::bind(resolved, kind, inner, limits).await.with_context(|| format!("cannot listen on {resolved}"))
}

/// The address by which this machine's own host worker reaches the gate.
fn reachable_here(listening: SocketAddr) -> String {
    let mut address = listening;
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        });
    }
    address.to_string()
}

fn enrolled(register: &Register, config: &Config) -> Vec<Enrolled> {
    register
        .hosts()
        .map(|(name, host)| Enrolled {
            name: name.clone(),
            fingerprint: host.key.fingerprint(),
            since: host.since,
            weight: config.weight(name),
        })
        .collect()
}

async fn follow_register(trust: Trust, fleet: Fleet, desk: Desk, config: Config, stop: CancellationToken) {
    let mut changes = trust.changes();
    loop {
        let hosts = enrolled(&changes.borrow_and_update().clone(), &config);
        desk.enrolled(hosts.iter().map(|host| host.name.clone()).collect()).await;
        if fleet.with(move |fleet| fleet.enrol(hosts)).await.is_none() {
            return;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Writes down who has used the client worker's next key: all that are known at a time in one write.
async fn note_takers(mut took: mpsc::Receiver<(PublicKey, Taker)>, trust: Trust) {
    let mut takers = Vec::new();
    while took.recv_many(&mut takers, TAKERS).await > 0 {
        let noted = trust.change(|register| {
            for (key, taker) in takers.drain(..) {
                register.took(&key, vec![taker]);
            }
            Ok(())
        });
        if let Err(fault) = noted.await {
            // Their next requests say it again.
            tracing::warn!(%fault, "cannot note who uses the next key");
            tokio::time::sleep(TAKERS_PAUSE).await;
        }
    }
}

/// What this machine's own command and host worker pin is the newest key.
async fn follow_keys(
    keys: ServerKeys,
    config: Config,
    trust: Trust,
    audit: Audit,
    here: String,
    stop: CancellationToken,
) {
    let mut changes = keys.changes();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
        let newest = changes.borrow_and_update().newest();
        let mut done = local::enrol_root(&config, newest, &trust, &audit).await;
        if done.is_ok() {
            done = local::invite_local_host(&config, newest, &trust, &audit, here.clone()).await;
        }
        if let Err(error) = done {
            tracing::warn!(error = format!("{error:#}"), "this machine's own files do not have the newest key");
        }
    }
}

async fn follow_silence(
    mut went_down: mpsc::Receiver<maglica_proto::name::HostName>,
    desk: Desk,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            host = went_down.recv() => match host {
                Some(host) => desk.silent(host).await,
                None => return,
            },
        }
    }
}

async fn forget_old_jobs(desk: Desk, keep: Duration, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EXPIRE_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {
                let before = Timestamp::from(SystemTime::now()).before(keep);
                // A store that fails says so itself, and is asked again at the next time.
                while desk.expire(before).await.unwrap_or(false) {
                    tokio::time::sleep(EXPIRE_PAUSE).await;
                }
            }
        }
    }
}
