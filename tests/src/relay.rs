//! A relay between a daemon and its peer that the test can cut: bytes then disappear, as behind a broken switch, while the
//! connections stay.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// A relay. Its threads end with their connections.
#[derive(Debug, Clone)]
pub struct Relay {
    cut: Arc<AtomicBool>,
    passed: Arc<AtomicU64>,
}

impl Relay {
    /// Listens at `at` and passes everything on to `to`, and back.
    ///
    /// # Panics
    /// If the address is taken.
    #[must_use]
    pub fn start(at: SocketAddr, to: SocketAddr) -> Self {
        let listener = TcpListener::bind(at).unwrap_or_else(|error| panic!("cannot listen on {at}: {error}"));
        let relay = Self { cut: Arc::default(), passed: Arc::default() };
        let accepting = relay.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(near), Ok(far)) = (stream, TcpStream::connect(to)) else { continue };
                let Ok((near_too, far_too)) = near.try_clone().and_then(|near| Ok((near, far.try_clone()?))) else {
                    continue;
                };
                let (there, back) = (accepting.clone(), accepting.clone());
                thread::spawn(move || there.pass(near, far));
                thread::spawn(move || back.pass(far_too, near_too));
            }
        });
        relay
    }

    /// From now on bytes disappear.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    /// From now on they pass again; what disappeared is gone, so connections of before are broken.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }

    /// How many bytes have passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed.load(Ordering::SeqCst)
    }

    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count) = from.read(&mut buffer) {
            if count == 0 {
                break;
            }
            if self.cut.load(Ordering::SeqCst) {
                continue;
            }
            self.passed.fetch_add(count as u64, Ordering::SeqCst);
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        // The other direction ends with it.
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    }
}
