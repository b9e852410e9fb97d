//! The port on which others fetch images from this host.
//!
//! A stranger costs a place among those who knock, which the next one takes, and one reading of 1 KiB; whoever does not know this
//! host's public key, which is told to enrolled ones only, gets no further, and hears nothing. Only then is the client worker asked,
//! one question at a time and not too often.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use maglica_proto::{
    fault::chain,
    host::{Visitor, Vouched},
    transfer::{
        Acceptor, Role, Wire, give,
        message::{Ask, Say},
        seal::OPENING_HEAD,
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
    sync::{Mutex, Semaphore, watch},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Grants, source};
use crate::hypervisor::Host;

/// How many may have dialled and not shaken hands yet.
const KNOCKING: usize = 64;
/// How many are served at a time: each takes two threads and some MiB.
const SERVED: usize = 32;
/// How long an opening may take.
const OPENING_LIMIT: Duration = Duration::from_secs(5);
/// How long the client worker is left alone after it denied somebody.
const AFTER_DENIAL: Duration = Duration::from_millis(50);
/// How often it is tried again to listen, or to accept when the system has no more descriptors.
const AGAIN: Duration = Duration::from_secs(5);

/// What is needed to listen.
pub struct Listening {
    /// The address; none: the one from which the client worker is reached.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
    /// Where the client worker is.
    pub server: String,
    /// Who may have what.
    pub grants: Arc<dyn Grants>,
    /// The hypervisor, whose images are given.
    pub host: Host,
}

struct Shared {
    grants: Arc<dyn Grants>,
    host: Host,
    asking: Mutex<()>,
    served: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Listening {
    /// Listens until `stop`, and says where in `announce`.
    pub async fn run(self, announce: watch::Sender<Option<SocketAddr>>, stop: CancellationToken) {
        let mut said = String::new();
        let listener = loop {
            match self.bind().await {
                Ok(listener) => break listener,
                Err(error) => {
                    let why = chain(&error);
                    if said != why {
                        let port = self.port;
                        tracing::warn!(
                            port,
                            error = why,
                            "cannot listen for transfers; images cannot be copied from here"
                        );
                        said = why;
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(AGAIN) => {}
            }
        };
        let Ok(address) = listener.local_addr() else { return };
        tracing::info!(%address, "takes connections for transfers");
        announce.send_replace(Some(address));
        let served = Arc::new(Semaphore::new(SERVED));
        let shared = Arc::new(Shared { grants: self.grants, host: self.host, asking: Mutex::default(), served, stop });
        accept(listener, &shared).await;
        announce.send_replace(None);
    }

    async fn bind(&self) -> io::Result<TcpListener> {
        let address = match self.address {
            Some(address) => address,
            // Nothing is sent: the system only chooses the address that it would send from.
            None => {
                let target = tokio::net::lookup_host(&self.server).await?.next();
                let target = target.ok_or_else(|| io::Error::other("the client worker's name has no address"))?;
                let any: SocketAddr = if target.is_ipv4() { ([0; 4], 0).into() } else { ([0_u16; 8], 0).into() };
                let socket = UdpSocket::bind(any).await?;
                socket.connect(target).await?;
                socket.local_addr()?.ip()
            }
        };
        TcpListener::bind((address, self.port)).await
    }
}

async fn accept(listener: TcpListener, shared: &Arc<Shared>) {
    let mut knocking: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(error = chain(&error), "cannot accept a connection");
                sleep(AFTER_DENIAL).await;
                continue;
            }
        };
        knocking.retain(|knock| !knock.is_finished());
        if knocking.len() >= KNOCKING
            && let Some(oldest) = knocking.pop_front()
        {
            oldest.abort();
        }
        let shared = shared.clone();
        let knock = tokio::spawn(async move {
            match open(stream, &shared).await {
                // Served by a task of its own, so that its place at the door is free.
                Ok(Some((wire, vouched))) => drop(tokio::spawn(serve(wire, vouched, shared, peer))),
                Ok(None) => tracing::info!(%peer, "dialled for a transfer and was not let in"),
                Err(why) => tracing::debug!(%peer, error = why, "dialled and is no friend"),
            }
        });
        knocking.push_back(knock.abort_handle());
    }
}

/// Reads the opening, asks who it is, and answers; nothing is said to whom the client worker does not know.
async fn open(mut stream: TcpStream, shared: &Shared) -> Result<Option<(Wire, Vouched)>, String> {
    let keys = shared.grants.keys();
    let read = async {
        let mut head = [0; OPENING_HEAD];
        stream.read_exact(&mut head).await.map_err(|error| chain(&error))?;
        let (role, length) = Acceptor::head(head).map_err(|error| chain(&error))?;
        let mut message = vec![0; length];
        stream.read_exact(&mut message).await.map_err(|error| chain(&error))?;
        Acceptor::read(&keys, role, &message).map_err(|error| chain(&error))
    };
    let acceptor = timeout(OPENING_LIMIT, read).await.map_err(|_| "it says nothing".to_owned())??;
    let role = match acceptor.role {
        Role::Host => Visitor::Host,
        Role::Operator => Visitor::Operator,
    };
    let asked = {
        let _one = shared.asking.lock().await;
        let asked = shared.grants.vouch(acceptor.hello.job, acceptor.key, role).await;
        if matches!(asked, Ok(None)) {
            sleep(AFTER_DENIAL).await;
        }
        asked
    };
    let Some(vouched) = asked.map_err(|fault| fault.to_string())? else { return Ok(None) };
    let (message, sealed) = acceptor.accept().map_err(|error| chain(&error))?;
    stream.write_all(&message).await.map_err(|error| chain(&error))?;
    let stream = stream.into_std().map_err(|error| chain(&error))?;
    Ok(Some((Wire::new(stream, sealed).map_err(|error| chain(&error))?, vouched)))
}

async fn serve(mut wire: Wire, vouched: Vouched, shared: Arc<Shared>, peer: SocketAddr) {
    let Ok(_place) = shared.served.clone().try_acquire_owned() else {
        return tracing::warn!(%peer, "more want to fetch from here than can be served; it tries again");
    };
    let Ok(breaker) = wire.breaker() else { return };
    let image = match vouched {
        Vouched::Image(image) => image,
        Vouched::Job => return,
    };
    let (name, wanted) = (image.name.clone(), image.clone());
    tracing::info!(%peer, image = %name, "fetches an image from here");
    let offered = shared
        .host
        .look(format!("opening the image {name}"), move |hypervisor| Ok(source::offer(hypervisor, &wanted)))
        .await
        .unwrap_or_else(|error| Err(error.into()));
    let giving = tokio::task::spawn_blocking(move || match offered {
        Ok(offer) => give(&mut wire, &offer),
        Err(fault) => {
            // Whatever it asks.
            wire.hear::<Ask>()?;
            wire.say(&Say::Refused { fault })
        }
    });
    let ended = tokio::select! {
        () = shared.stop.cancelled() => return drop(breaker),
        ended = giving => ended,
    };
    match ended {
        Ok(Ok(())) => tracing::info!(%peer, image = %name, "has fetched the image"),
        Ok(Err(error)) => tracing::info!(%peer, image = %name, error = chain(&error), "has not fetched the image"),
        Err(_) => tracing::error!(%peer, image = %name, "giving the image failed"),
    }
}
