//! The functions that libvirt calls. Each kind of event has a signature of its own; all of them end with what was given at the
//! registration, and nothing between is looked at but whom it is about.

use std::{
    ffi::{c_char, c_int, c_void},
    mem,
};

use uuid::Uuid;
use virt::sys::{self, virConnectPtr, virDomainPtr, virNetworkPtr, virStoragePoolPtr};

use crate::{Event, Hearer};

/// The type in which libvirt takes the callback of any kind of domain event.
type OfDomain = unsafe extern "C" fn(virConnectPtr, virDomainPtr, *mut c_void);
/// The same for storage pools.
type OfPool = unsafe extern "C" fn(virConnectPtr, virStoragePoolPtr, *mut c_void);
/// The same for networks.
type OfNetwork = unsafe extern "C" fn(virConnectPtr, virNetworkPtr, *mut c_void);

/// Tells the hearer.
///
/// # Safety
/// `given` is of a registration that was not freed yet.
unsafe fn tell(given: *mut c_void, event: Event) {
    // SAFETY: the caller's word; libvirt frees it only after its last call.
    let hearer = unsafe { &*given.cast::<Hearer>() };
    hearer(event);
}

/// Tells that something of a domain changed.
///
/// # Safety
/// As [`tell`], and `domain` is one of libvirt's.
unsafe fn tell_domain(domain: virDomainPtr, given: *mut c_void) {
    let mut uuid = [0_u8; 16];
    // SAFETY: `domain` is libvirt's for the length of the call; it writes the 16 bytes of a UUID (VIR_UUID_BUFLEN).
    if unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) } == 0 {
        // SAFETY: the caller's word.
        unsafe { tell(given, Event::Domain(Uuid::from_bytes(uuid))) };
    }
}

/// Takes back what a registration was given.
///
/// # Safety
/// `given` is of a registration; nobody uses it any more.
pub(crate) unsafe extern "C" fn free(given: *mut c_void) {
    // SAFETY: it was made by Box::into_raw of a Hearer, and this is called once for it.
    drop(unsafe { Box::from_raw(given.cast::<Hearer>()) });
}

/// A callback for domain events of one signature: what stands between the domain and the end. `$give` is what libvirt expects back.
macro_rules! of_domain {
    ($name:ident($($argument:ty),*) $(-> $result:ty = $give:expr)?) => {
        unsafe extern "C" fn $name(_: virConnectPtr, domain: virDomainPtr, $(_: $argument,)* given: *mut c_void) $(-> $result)? {
            // SAFETY: libvirt calls this with a domain and what the registration was given.
            unsafe { tell_domain(domain, given) };
            $($give)?
        }
    };
}

of_domain!(lifecycle(c_int, c_int) -> c_int = 0);
of_domain!(reason(c_int));
of_domain!(two_numbers(c_int, c_int));
of_domain!(text(*const c_char));
of_domain!(text_number(*const c_char, c_int));
of_domain!(text_two_numbers(*const c_char, c_int, c_int));
of_domain!(three_texts_number(*const c_char, *const c_char, *const c_char, c_int));
of_domain!(number_text(c_int, *const c_char));

/// A function of another signature as libvirt's general type, which it casts back by the kind of event.
macro_rules! general {
    ($function:ident as fn($($argument:ty),*) $(-> $result:ty)?, $general:ty) => {
        // SAFETY: both are pointers to C functions, and libvirt calls it with the signature that it has: see the table.
        unsafe { mem::transmute::<unsafe extern "C" fn($($argument),*) $(-> $result)?, $general>($function) }
    };
}
macro_rules! domain_event {
    ($id:ident, $function:ident($($argument:ty),*) $(-> $result:ty)?) => {
        (
            sys::$id.cast_signed(),
            general!($function as fn(virConnectPtr, virDomainPtr, $($argument,)* *mut c_void) $(-> $result)?, OfDomain),
        )
    };
}

/// What of a domain can change without its description being written anew or its state changing is here too; what happens often and
/// changes nothing that anybody asks for (balloon, clock) is not. The signatures are those of libvirt-domain.h.
pub(crate) const DOMAIN_EVENTS: [(c_int, OfDomain); 11] = [
    domain_event!(VIR_DOMAIN_EVENT_ID_LIFECYCLE, lifecycle(c_int, c_int) -> c_int),
    domain_event!(
        VIR_DOMAIN_EVENT_ID_DISK_CHANGE,
        three_texts_number(*const c_char, *const c_char, *const c_char, c_int)
    ),
    domain_event!(VIR_DOMAIN_EVENT_ID_TRAY_CHANGE, text_number(*const c_char, c_int)),
    domain_event!(VIR_DOMAIN_EVENT_ID_PMWAKEUP, reason(c_int)),
    domain_event!(VIR_DOMAIN_EVENT_ID_PMSUSPEND, reason(c_int)),
    domain_event!(VIR_DOMAIN_EVENT_ID_PMSUSPEND_DISK, reason(c_int)),
    domain_event!(VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, text(*const c_char)),
    domain_event!(VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, text(*const c_char)),
    domain_event!(VIR_DOMAIN_EVENT_ID_BLOCK_JOB_2, text_two_numbers(*const c_char, c_int, c_int)),
    domain_event!(VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, two_numbers(c_int, c_int)),
    domain_event!(VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, number_text(c_int, *const c_char)),
];

unsafe extern "C" fn pool_lifecycle(_: virConnectPtr, _: virStoragePoolPtr, _: c_int, _: c_int, given: *mut c_void) {
    // SAFETY: libvirt calls this with what the registration was given.
    unsafe { tell(given, Event::Pool) };
}

unsafe extern "C" fn pool_refresh(_: virConnectPtr, _: virStoragePoolPtr, given: *mut c_void) {
    // SAFETY: as above.
    unsafe { tell(given, Event::Pool) };
}

/// The signatures are those of libvirt-storage.h.
pub(crate) const POOL_EVENTS: [(c_int, OfPool); 2] = [
    (
        sys::VIR_STORAGE_POOL_EVENT_ID_LIFECYCLE.cast_signed(),
        general!(pool_lifecycle as fn(virConnectPtr, virStoragePoolPtr, c_int, c_int, *mut c_void), OfPool),
    ),
    (sys::VIR_STORAGE_POOL_EVENT_ID_REFRESH.cast_signed(), pool_refresh),
];

unsafe extern "C" fn network(_: virConnectPtr, _: virNetworkPtr, _: c_int, _: c_int, given: *mut c_void) {
    // SAFETY: libvirt calls this with what the registration was given.
    unsafe { tell(given, Event::Network) };
}

/// The callback of a network's lifecycle; the signature is that of libvirt-network.h.
pub(crate) const fn network_lifecycle() -> OfNetwork {
    general!(network as fn(virConnectPtr, virNetworkPtr, c_int, c_int, *mut c_void), OfNetwork)
}

/// The connection ended, for this reason.
pub(crate) unsafe extern "C" fn closed(_: virConnectPtr, _: c_int, given: *mut c_void) {
    // SAFETY: libvirt calls this with what the registration was given.
    unsafe { tell(given, Event::Closed) };
}
