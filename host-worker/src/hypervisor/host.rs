//! The one way from async code to the hypervisor's blocking calls.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::timeout};

use super::{Hypervisor, HypervisorError, happenings::Happenings};

/// libvirtd serves five requests of one client at a time (`max_client_requests`) and lets the others wait; one is left for
/// what may not wait behind guest agents that do not answer.
const CONCURRENT_CALLS: usize = 4;
/// How long a question may take: libvirt answers in milliseconds unless it hangs on storage that is gone.
pub const LOOK_LIMIT: Duration = Duration::from_secs(30);
/// How long a change may take: starting a domain on a loaded host with emulation stays well below.
pub const CALL_LIMIT: Duration = Duration::from_secs(120);

/// This host's hypervisor for async code. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Host {
    hypervisor: Arc<dyn Hypervisor>,
    slots: Arc<Semaphore>,
}

impl Host {
    /// Wraps a hypervisor.
    #[must_use]
    pub fn new(hypervisor: Arc<dyn Hypervisor>) -> Self {
        Self { hypervisor, slots: Arc::new(Semaphore::new(CONCURRENT_CALLS)) }
    }

    /// What programs that talk to the hypervisor themselves are to connect to.
    #[must_use]
    pub fn uri(&self) -> &str {
        self.hypervisor.uri()
    }

    /// From here on tells of what happens on the hypervisor.
    pub fn listen(&self, happenings: Happenings) {
        self.hypervisor.listen(happenings);
    }

    /// Asks or orders something, within [`LOOK_LIMIT`]. `doing` says what, to which object, for the error.
    ///
    /// # Errors
    /// What `call` fails with; `Down` if no call could be begun within the limit, for all that may run at once hang;
    /// `Unknown` if it was begun and did not end.
    pub async fn look<T: Send + 'static>(
        &self,
        doing: impl Into<String> + Send,
        call: impl FnOnce(&dyn Hypervisor) -> Result<T, HypervisorError> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        self.call(doing, LOOK_LIMIT, call).await
    }

    /// The same within a limit of the caller's.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub async fn call<T: Send + 'static>(
        &self,
        doing: impl Into<String> + Send,
        limit: Duration,
        call: impl FnOnce(&dyn Hypervisor) -> Result<T, HypervisorError> + Send + 'static,
    ) -> Result<T, HypervisorError> {
        let doing = doing.into();
        let slot = match timeout(limit, Arc::clone(&self.slots).acquire_owned()).await {
            Ok(Ok(slot)) => slot,
            Ok(Err(_)) | Err(_) => {
                return Err(HypervisorError::Down {
                    doing,
                    why: format!("{CONCURRENT_CALLS} earlier calls have not ended for {} s", limit.as_secs()),
                });
            }
        };
        let hypervisor = Arc::clone(&self.hypervisor);
        // The slot goes with the call: one that hangs keeps it, so that hung threads stay bounded.
        let span = tracing::Span::current();
        let task = tokio::task::spawn_blocking(move || {
            let _slot = slot;
            span.in_scope(|| call(&*hypervisor))
        });
        match timeout(limit, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(panicked)) => Err(HypervisorError::Unknown { doing, why: panicked.to_string() }),
            Err(_) => Err(HypervisorError::timed_out(doing, limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::hypervisor::Libvirt;

    #[tokio::test]
    async fn a_call_that_hangs_is_given_up_as_unknown_and_hung_calls_are_bounded() {
        let host = Host::new(Arc::new(Libvirt::new("test:///default")));
        let mut release = Vec::new();
        for _ in 0..CONCURRENT_CALLS {
            let (keep, hang) = mpsc::channel::<()>();
            release.push(keep);
            let result = host
                .call("hanging", Duration::from_millis(50), move |_| {
                    // Returns when the test lets go of its end.
                    let _ = hang.recv();
                    Ok(())
                })
                .await;
            assert!(matches!(result, Err(HypervisorError::Unknown { .. })), "{result:?}");
        }
        let result = host.call("asking", Duration::from_millis(50), |_| Ok(())).await;
        assert!(matches!(result, Err(HypervisorError::Down { .. })), "{result:?}");
        drop(release);
        host.look("asking again", |_| Ok(())).await.unwrap();
    }
}
