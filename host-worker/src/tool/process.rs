//! A running program with all that it starts, bound to the life of the host worker.
//!
//! Three things end it early:
//! - *Cancel or time limit*: its process group gets SIGTERM, then SIGKILL.
//! - *The future that runs it is dropped*: SIGKILL to the group at once.
//! - *The host worker dies*, even by `kill -9`: the program is started through `setpriv --pdeathsig KILL`, by which the
//!   kernel kills it when its parent dies. "Parent" there means the *thread* that started it. Threads of tokio's pools
//!   end while the program runs on (an idle blocking thread after ten seconds, a worker thread that called
//!   `block_in_place` likewise), which would kill a healthy program; so all programs are started by one thread of our
//!   own that lives as long as the host worker. In the millisecond before setpriv has asked the kernel, the program is
//!   not bound yet. Only the program itself is bound this way, not its children: a tool
//!   that leaves long-lived children behind has to see to them (libguestfs does, by its recovery process).

use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    process::ExitStatus,
    sync::{LazyLock, mpsc},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    runtime::Handle,
    sync::oneshot,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::ToolPaths;

/// How long a program has after SIGTERM to tidy up before SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How long the pipes may stay open after the program ended: a child of its own that still holds them does not hold us.
const DRAIN: Duration = Duration::from_secs(1);

/// `setpriv`, if this system has it (util-linux has since 2.23; every Debian and Red Hat since 2014).
static SETPRIV: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let found = ToolPaths::default().find("setpriv");
    if found.is_none() {
        tracing::warn!("setpriv is not installed: programs that run when the host worker is killed run on");
    }
    found
});

/// The thread that starts programs, by the queue of its orders.
static STARTER: LazyLock<io::Result<mpsc::Sender<Order>>> = LazyLock::new(|| {
    let (orders, queue) = mpsc::channel::<Order>();
    std::thread::Builder::new().name("tool-starter".to_owned()).spawn(move || {
        // The queue is as long as there are tasks that wait for their program to start, a bounded number.
        while let Ok(order) = queue.recv() {
            order.carry_out();
        }
    })?;
    Ok(orders)
});

struct Order {
    command: std::process::Command,
    runtime: Handle,
    reply: oneshot::Sender<io::Result<Process>>,
}

impl Order {
    fn carry_out(self) {
        // The child is waited for by the runtime of the one who asked, not by this thread's.
        let _entered = self.runtime.enter();
        let mut command = tokio::process::Command::from(self.command);
        let started = command.kill_on_drop(true).process_group(0).spawn().map(Process::new);
        // If nobody waits for it any more, the process is dropped here and thereby killed.
        drop(self.reply.send(started));
    }
}

/// How a program came to its end.
#[derive(Debug)]
pub(super) enum Ended {
    /// By itself.
    Itself(ExitStatus),
    /// Stopped for its time limit.
    TimedOut,
    /// Stopped for a cancelled job.
    Cancelled,
    /// The system would not say.
    Unknown(io::Error),
}

/// The beginning of a command line by which `program` dies with the host worker.
pub(super) fn bound_to_us(program: PathBuf) -> std::process::Command {
    fn with_setpriv(setpriv: &Path, program: PathBuf) -> std::process::Command {
        let mut command = std::process::Command::new(setpriv);
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    }
    match SETPRIV.as_deref() {
        Some(setpriv) => with_setpriv(setpriv, program),
        None => std::process::Command::new(program),
    }
}

/// A program that was started and not yet waited for. Dropping it kills its process group.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Group,
}

impl Process {
    pub(super) async fn start(command: std::process::Command) -> io::Result<Self> {
        let starter = STARTER.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        let (reply, answer) = oneshot::channel();
        let order = Order { command, runtime: Handle::current(), reply };
        starter.send(order).map_err(|_| io::Error::other("the thread that starts programs is gone"))?;
        answer.await.map_err(|_| io::Error::other("the thread that starts programs is gone"))?
    }

    fn new(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { child, group: Group(id) }
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) fn take_output(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    pub(super) fn take_input(&mut self) -> Option<ChildStdin> {
        self.child.stdin.take()
    }

    /// Waits for its end while `drain` reads its output, for at most `limit`.
    pub(super) async fn finish(
        mut self,
        drain: impl Future<Output = ()>,
        limit: Duration,
        cancel: &CancellationToken,
    ) -> Ended {
        let mut drain = std::pin::pin!(drain);
        let mut drained = false;
        let deadline = tokio::time::sleep(limit);
        let mut deadline = std::pin::pin!(deadline);
        let ended = loop {
            tokio::select! {
                status = self.child.wait() => break status.map_or_else(Ended::Unknown, Ended::Itself),
                () = &mut drain, if !drained => drained = true,
                () = cancel.cancelled() => break Ended::Cancelled,
                () = &mut deadline => break Ended::TimedOut,
            }
        };
        match &ended {
            Ended::Itself(_) => {
                self.group.forget();
                if !drained {
                    drop(timeout(DRAIN, drain).await);
                }
            }
            Ended::TimedOut | Ended::Cancelled | Ended::Unknown(_) => self.stop().await,
        }
        ended
    }

    /// SIGTERM to the group, SIGKILL after the grace; returns when the program itself is gone.
    pub(super) async fn stop(mut self) {
        self.group.signal(Signal::TERM);
        if timeout(GRACE, self.child.wait()).await.is_err() {
            self.group.signal(Signal::KILL);
            drop(self.child.wait().await);
        }
        // Dropping the group kills what of it outlived the program. Its id cannot have been given to another group
        // while a member lives.
    }
}

/// The process group of a program; what of it is alive is killed on drop.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(id) = self.0 {
            // It fails if nobody is left in the group, which is what is wanted.
            let _ = kill_process_group(id, signal);
        }
    }

    /// The program ended by itself: its id may be given to another, and is not to be signalled any more.
    const fn forget(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
