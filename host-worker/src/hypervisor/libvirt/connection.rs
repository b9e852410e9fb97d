//! The connection to libvirt: opened when needed, given up when it breaks, listened on for as long as it lives; and what libvirt's
//! errors mean to us.

use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use maglica_libvirt_events::{self as events, Event, Watch};
use virt::{
    connect::Connect,
    enumutil::Enum,
    error::{Error, ErrorNumber, clear_error_callback},
};

use super::{HypervisorError, definitions, happenings::Happenings};

/// libvirt prints every error on stderr unless told otherwise, once for the process.
static SILENCE: Once = Once::new();

/// A hypervisor behind libvirt.
pub struct Libvirt {
    uri: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<Open>,
    listener: Option<Happenings>,
    /// There was a connection before.
    was_open: bool,
}

/// A connection with what listens on it. That goes first, for it holds the connection, too.
struct Open {
    watch: Option<Watch>,
    connection: Connect,
}

impl Libvirt {
    /// The hypervisor behind a libvirt URI, such as `qemu:///system` or `test:///default`; connects when it is first asked.
    #[must_use]
    pub fn new(uri: impl Into<String>) -> Self {
        SILENCE.call_once(clear_error_callback);
        // Before any connection: one that is older has no events.
        events::start();
        Self { uri: uri.into(), state: Mutex::default() }
    }

    pub(super) fn name(&self) -> &str {
        &self.uri
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Its parts are plain handles, right even if a thread panicked while it held the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, doing: &str) -> Result<Connect, HypervisorError> {
        let mut state = self.state();
        if let Some(open) = state.open.as_ref().filter(|open| open.connection.is_alive().unwrap_or(false)) {
            return Ok(open.connection.clone());
        }
        state.open = None;
        let connection = Connect::open(Some(&self.uri))
            .map_err(|error| HypervisorError::Down { doing: doing.to_owned(), why: error.message().to_owned() })?;
        let watch = state.listener.as_ref().and_then(|listener| watch(&connection, listener));
        if state.was_open {
            tracing::info!("connected to libvirt again");
            if let Some(listener) = &state.listener {
                // What happened between the two connections nobody told.
                listener.add(|happened| happened.everything = true);
            }
        }
        state.was_open = true;
        state.open = Some(Open { watch, connection: connection.clone() });
        Ok(connection)
    }

    /// Tells this one what happens, on the connection that there is and on those to come.
    pub(super) fn tell(&self, listener: Happenings) {
        let mut state = self.state();
        if let Some(open) = &mut state.open {
            open.watch = watch(&open.connection, &listener);
        }
        definitions::watch(&self.uri, &listener);
        state.listener = Some(listener);
    }

    /// Whether the connection broke while it was used; if so it is not used again.
    fn broke(&self, connection: &Connect) -> bool {
        let broke = !connection.is_alive().unwrap_or(false);
        if broke {
            self.state().open = None;
        }
        broke
    }

    /// Asks something that changes nothing; once more on a new connection if the first one broke.
    pub(super) fn look<T>(
        &self,
        doing: &str,
        call: impl Fn(&Connect) -> Result<T, Error>,
    ) -> Result<T, HypervisorError> {
        let first = self.connect(doing)?;
        let error = match call(&first) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        if !self.broke(&first) {
            return Err(meaning(doing, &error));
        }
        let second = self.connect(doing)?;
        call(&second).map_err(|error| {
            if self.broke(&second) {
                HypervisorError::Down { doing: doing.to_owned(), why: error.message().to_owned() }
            } else {
                meaning(doing, &error)
            }
        })
    }

    /// Changes something, at most once.
    pub(super) fn act<T>(
        &self,
        doing: &str,
        call: impl FnOnce(&Connect) -> Result<T, Error>,
    ) -> Result<T, HypervisorError> {
        // A connection that broke unnoticed is found by a question, not by the change.
        self.look(doing, Connect::lib_version)?;
        let connection = self.connect(doing)?;
        call(&connection).map_err(|error| {
            if self.broke(&connection) {
                HypervisorError::Unknown { doing: doing.to_owned(), why: error.message().to_owned() }
            } else {
                meaning(doing, &error)
            }
        })
    }
}

/// Listens on a new connection.
fn watch(connection: &Connect, listener: &Happenings) -> Option<Watch> {
    let happenings = listener.clone();
    let hear = move |event| {
        happenings.add(|happened| match event {
            Event::Domain(uuid) => {
                happened.domains.insert(uuid);
            }
            Event::Pool => happened.pools = true,
            Event::Network => happened.networks = true,
            Event::Closed => happened.everything = true,
        });
    };
    let watch = match Watch::open(connection, &(Arc::new(hear) as events::Hearer)) {
        Ok(watch) => Some(watch),
        Err(error) => {
            tracing::warn!(
                error = error.message(),
                "libvirt does not tell what happens to domains; they are looked at now and then"
            );
            None
        }
    };
    listener.set_told(watch.is_some());
    watch
}

fn meaning(doing: &str, error: &Error) -> HypervisorError {
    let (doing, why) = (doing.to_owned(), error.message().to_owned());
    let Enum::Known(code) = error.code() else {
        return HypervisorError::Refused { doing, why };
    };
    if matches!(
        code,
        ErrorNumber::NoDomain
            | ErrorNumber::NoStoragePool
            | ErrorNumber::NoStorageVolume
            | ErrorNumber::NoDomainSnapshot
    ) {
        HypervisorError::NotFound { doing, why }
    } else if matches!(code, ErrorNumber::DomExist | ErrorNumber::StorageVolExist) {
        HypervisorError::AlreadyExists { doing, why }
    } else if matches!(
        code,
        ErrorNumber::AgentUnresponsive | ErrorNumber::AgentUnsynced | ErrorNumber::AgentCommandTimeout
    ) {
        HypervisorError::NoAgent { doing, why }
    } else if matches!(code, ErrorNumber::OperationInvalid) {
        HypervisorError::WrongState { doing, why }
    } else if matches!(code, ErrorNumber::ResourceBusy) {
        HypervisorError::Busy { doing, why }
    } else {
        HypervisorError::Refused { doing, why }
    }
}
