//! The connection to libvirt: opened when needed, given up when it breaks; and what libvirt's errors mean to us.

use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use virt::{
    connect::Connect,
    enumutil::Enum,
    error::{Error, ErrorNumber, clear_error_callback},
};

use super::HypervisorError;

/// libvirt prints every error on stderr unless told otherwise, once for the process.
static SILENCE: Once = Once::new();

/// A hypervisor behind libvirt.
pub struct Libvirt {
    uri: String,
    connection: Mutex<Option<Connect>>,
}

impl Libvirt {
    /// The hypervisor behind a libvirt URI, such as `qemu:///system` or `test:///default`; connects when it is first asked.
    #[must_use]
    pub fn new(uri: impl Into<String>) -> Self {
        SILENCE.call_once(clear_error_callback);
        Self { uri: uri.into(), connection: Mutex::new(None) }
    }

    pub(super) fn name(&self) -> &str {
        &self.uri
    }

    fn slot(&self) -> MutexGuard<'_, Option<Connect>> {
        // The value is a plain handle, right even if a thread panicked while it held the lock.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, doing: &str) -> Result<Connect, HypervisorError> {
        let mut slot = self.slot();
        if let Some(connection) = slot.as_ref().filter(|connection| connection.is_alive().unwrap_or(false)) {
            return Ok(connection.clone());
        }
        let connection = Connect::open(Some(&self.uri))
            .map_err(|error| HypervisorError::Down { doing: doing.to_owned(), why: error.message().to_owned() })?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    /// Whether the connection broke while it was used; if so it is not used again.
    fn broke(&self, connection: &Connect) -> bool {
        let broke = !connection.is_alive().unwrap_or(false);
        if broke {
            *self.slot() = None;
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

fn meaning(doing: &str, error: &Error) -> HypervisorError {
    let (doing, why) = (doing.to_owned(), error.message().to_owned());
    let Enum::Known(code) = error.code() else {
        return HypervisorError::Refused { doing, why };
    };
    if matches!(code, ErrorNumber::NoDomain | ErrorNumber::NoStoragePool | ErrorNumber::NoStorageVolume) {
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
