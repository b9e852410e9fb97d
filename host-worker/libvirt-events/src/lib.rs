//! libvirt's events, which the `virt` crate (0.5) does not offer: who listens hears which domain, pool or network changed, and that
//! the connection ended. What changed is for the listener to ask; libvirt's own words on it are not taken over.
//!
//! This is the only crate of Maglica with unsafe code: libvirt calls back through C function pointers. All that is unsafe is here, behind
//! an interface that is not: [`start`] once, then [`Watch::open`] for each connection.
//!
//! The rules of libvirt's that it keeps:
//! - The event loop is registered before the first connection is opened, and one thread runs it for as long as the process lives.
//! - What a callback is given belongs to libvirt from a registration that succeeded until libvirt frees it, by [`free`].
//! - A callback holds a reference to its connection, so each is taken back when the [`Watch`] goes.
//! - A callback is called by the loop's thread; it must not wait, and must not take part in opening or closing a connection.

#![expect(unsafe_code, reason = "libvirt calls back through C function pointers, which the virt crate does not wrap")]

mod callback;

use std::{
    ffi::{c_int, c_void},
    ptr,
    sync::{Arc, Once},
    thread,
    time::Duration,
};

use uuid::Uuid;
use virt::{connect::Connect, error::Error, event, sys};

use callback::{DOMAIN_EVENTS, POOL_EVENTS, closed, network_lifecycle};

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Something of the domain with this UUID: its state, description, devices, agent; also that it came or went.
    Domain(Uuid),
    /// Some storage pool: its state, definition or volumes.
    Pool,
    /// Some network.
    Network,
    /// The connection ended, and no more is heard.
    Closed,
}

/// Who hears. Called by the thread of the event loop, which must not wait for anything.
pub type Hearer = Arc<dyn Fn(Event) + Send + Sync>;

/// Makes events possible on the connections that are opened from here on. Every call but the first one does nothing.
pub fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        // Without it everything works but events; what is listened for is then refused.
        if event::event_register_default_impl().is_err() {
            return;
        }
        // If there can be no thread there can be no host worker; nothing but events is lost here.
        let _ = thread::Builder::new().name("libvirt-events".to_owned()).spawn(|| {
            loop {
                if event::event_run_default_impl().is_err() {
                    // A failure that lasts must not become a busy loop.
                    thread::sleep(Duration::from_millis(100));
                }
            }
        });
    });
}

/// Listens for as long as it lives.
pub struct Watch {
    connection: Connect,
    domains: Vec<c_int>,
    pools: Vec<c_int>,
    networks: Vec<c_int>,
    close: bool,
}

impl Watch {
    /// Listens on a connection that was opened after [`start`].
    ///
    /// # Errors
    /// libvirt's, if it does not tell what happens to domains. What else a driver does not tell is left out.
    pub fn open(connection: &Connect, hearer: &Hearer) -> Result<Self, Error> {
        let mut watch = Self {
            connection: connection.clone(),
            domains: Vec::new(),
            pools: Vec::new(),
            networks: Vec::new(),
            close: false,
        };
        for (number, (event, callback)) in DOMAIN_EVENTS.into_iter().enumerate() {
            let given = give(hearer);
            // SAFETY: the connection is alive, for `watch` has it; no domain means all; the callback is of the event's own type
            // (DOMAIN_EVENTS); `given` stays valid until `free` gets it.
            let id = unsafe {
                sys::virConnectDomainEventRegisterAny(
                    watch.pointer(),
                    ptr::null_mut(),
                    event,
                    Some(callback),
                    given,
                    Some(callback::free),
                )
            };
            match (registered(id, given), number) {
                (Ok(id), _) => watch.domains.push(id),
                // The first is the lifecycle. The others are not of every driver and version.
                (Err(error), 0) => return Err(error),
                (Err(_), _) => {}
            }
        }
        for (event, callback) in POOL_EVENTS {
            let given = give(hearer);
            // SAFETY: as above, with no pool for all and POOL_EVENTS.
            let id = unsafe {
                sys::virConnectStoragePoolEventRegisterAny(
                    watch.pointer(),
                    ptr::null_mut(),
                    event,
                    Some(callback),
                    given,
                    Some(callback::free),
                )
            };
            watch.pools.extend(registered(id, given));
        }
        let given = give(hearer);
        // SAFETY: as above, with no network for all; the callback is that of a lifecycle.
        let id = unsafe {
            sys::virConnectNetworkEventRegisterAny(
                watch.pointer(),
                ptr::null_mut(),
                sys::VIR_NETWORK_EVENT_ID_LIFECYCLE.cast_signed(),
                Some(network_lifecycle()),
                given,
                Some(callback::free),
            )
        };
        watch.networks.extend(registered(id, given));
        // A driver within this process does not end. libvirt takes the callback for it with success, forgets it, and never frees it.
        if !connection.uri().is_ok_and(|uri| uri.starts_with("test:")) {
            let given = give(hearer);
            // SAFETY: the connection is alive; `given` stays valid until `free` gets it.
            let result = unsafe {
                sys::virConnectRegisterCloseCallback(watch.pointer(), Some(closed), given, Some(callback::free))
            };
            watch.close = registered(result, given).is_ok();
        }
        Ok(watch)
    }

    fn pointer(&self) -> sys::virConnectPtr {
        // SAFETY: only handed to libvirt while `self` holds the connection.
        unsafe { self.connection.as_ptr() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let connection = self.pointer();
        // On a connection that ended libvirt says an error, and has let go of the callback all the same.
        for id in self.domains.drain(..) {
            // SAFETY: the id is one that was given for this connection and not taken back yet; so below.
            unsafe { sys::virConnectDomainEventDeregisterAny(connection, id) };
        }
        for id in self.pools.drain(..) {
            // SAFETY: see above.
            unsafe { sys::virConnectStoragePoolEventDeregisterAny(connection, id) };
        }
        for id in self.networks.drain(..) {
            // SAFETY: see above.
            unsafe { sys::virConnectNetworkEventDeregisterAny(connection, id) };
        }
        if self.close {
            // SAFETY: this function was registered on this connection.
            unsafe { sys::virConnectUnregisterCloseCallback(connection, Some(closed)) };
        }
    }
}

/// A hearer in libvirt's hands.
fn give(hearer: &Hearer) -> *mut c_void {
    Box::into_raw(Box::new(Arc::clone(hearer))).cast()
}

/// The id of a registration. One that failed does not free what it was given.
fn registered(id: c_int, given: *mut c_void) -> Result<c_int, Error> {
    if id >= 0 {
        return Ok(id);
    }
    let error = Error::last_error();
    // SAFETY: `given` is of `give`, and libvirt did not take it.
    unsafe { callback::free(given) };
    Err(error)
}

#[cfg(test)]
mod tests;
