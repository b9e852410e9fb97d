//! What the client worker broadcasts on the topics of this host.
//!
//! A subscription is a prefix: topics end in a delimiter or are of one length. PUB loses messages by design and a dead peer looks
//! like silence, so the owner watches for the beat and makes a new subscriber; this one never reconnects by itself.

use std::path::Path;

use tokio::time::timeout;
use zeromq::{Socket, SocketRecv, SubSocket};

use super::dial::{DialLimits, Link, TransportError};
use super::rules::Role;

/// One connection to a publisher. After an error it is of no use any more.
pub struct Subscriber {
    addr: String,
    socket: SubSocket,
    link: Link,
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriber").field("addr", &self.addr).finish_non_exhaustive()
    }
}

impl Subscriber {
    /// Dials `addr` ("host:port") and subscribes to the prefixes `topics`: ASCII, not empty, as many and as long as the publisher's
    /// gate allows. What is published before the subscription reached the publisher is not seen.
    ///
    /// # Errors
    /// As [`Requester::request`](super::Requester::request), and [`TransportError::Topic`] before anything is dialled.
    pub async fn connect(
        addr: &str,
        topics: &[Vec<u8>],
        run_dir: Option<&Path>,
        limits: DialLimits,
    ) -> Result<Self, TransportError> {
        let topics = topics
            .iter()
            .map(|topic| {
                ascii(topic, limits.forward.rules.max_topic).ok_or_else(|| TransportError::Topic {
                    addr: addr.to_owned(),
                    topic: String::from_utf8_lossy(topic).into_owned(),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut link = Link::dial(addr, Role::Publisher, run_dir, &limits).await?;
        let mut socket = SubSocket::new();
        let connect = async {
            // Remembered by the socket, and sent by it as soon as it is connected.
            for topic in topics {
                socket.subscribe(topic).await?;
            }
            socket.connect(link.endpoint()).await
        };
        match timeout(limits.connect, connect).await {
            Err(_) => {
                return Err(TransportError::NoAnswer { addr: addr.to_owned(), waited: limits.connect });
            }
            Ok(Err(error)) => return Err(link.reason(error).await),
            Ok(Ok(())) => link.connected(),
        }
        Ok(Self { addr: addr.to_owned(), socket, link })
    }

    /// The address subscribed to.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// The next broadcast: its topic and its payload. Cancel-safe.
    ///
    /// # Errors
    /// When the connection has ended, and why. The subscriber must be dropped then.
    pub async fn next(&mut self) -> Result<(Vec<u8>, Vec<u8>), TransportError> {
        tokio::select! {
            biased;
            received = self.socket.recv() => match received {
                Ok(message) => {
                    // The forwarder let only [topic][payload] through.
                    let mut frames = message.into_vecdeque();
                    let payload = frames.pop_back().unwrap_or_default();
                    let topic = frames.pop_back().unwrap_or_default();
                    Ok((topic.into(), payload.into()))
                }
                Err(_) => Err(self.link.ended().await),
            },
            reason = self.link.ended() => Err(reason),
        }
    }
}

/// The topic as the socket wants it.
fn ascii(topic: &[u8], longest: usize) -> Option<&str> {
    let text = std::str::from_utf8(topic).ok()?;
    (!text.is_empty() && text.is_ascii() && text.len() <= longest).then_some(text)
}
