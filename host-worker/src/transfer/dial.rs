//! Reaches the host that an image is fetched from.

use std::{
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use maglica_proto::{
    host::Door,
    id::JobId,
    key::KeyPair,
    transfer::{Hello, Role, TransferError, Wire},
};

/// How long a connection may take to come about.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// Dials and shakes hands. Blocks.
///
/// # Errors
/// [`TransferError`].
pub fn dial(door: &Door, keys: &KeyPair, job: JobId) -> Result<Wire, TransferError> {
    let Door { address, key, .. } = door;
    let stream = connect(*address)?;
    Wire::open(stream, keys, *key, Role::Host, &Hello::new(job))
}

fn connect(address: SocketAddr) -> Result<TcpStream, TransferError> {
    TcpStream::connect_timeout(&address, CONNECT_LIMIT).map_err(TransferError::Io)
}
