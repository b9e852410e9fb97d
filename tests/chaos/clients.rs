//! The clients: each asks for its jobs in turn, again until it is answered, and writes down all it asks and hears.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use maglica_proto::{
    codec,
    fault::Code,
    id::JobId,
    key::{KeyPair, PublicKey},
    request::{Answer, Request},
    seal::{Hello, PeerKind},
    transport::{DialLimits, Requester, SealedRequester},
};
use tokio::time::{sleep, sleep_until};

use crate::{
    dice::Dice,
    history::{History, What},
    plan::Wish,
};

/// How long a client waits for an answer before it asks again: shorter than people do, for runs are short.
const ANSWER: Duration = Duration::from_millis(1_000);

/// What an operator needs to be let in.
#[derive(Clone)]
pub(crate) struct Pass {
    /// Its key.
    pub(crate) keys: KeyPair,
    /// The client worker's.
    pub(crate) server: PublicKey,
    /// For the sockets of its connections.
    pub(crate) run_dir: PathBuf,
}

/// A conversation with the client worker.
pub(crate) struct Operator {
    conversation: SealedRequester,
}

impl Operator {
    /// One that has not begun.
    pub(crate) fn new(pass: &Pass, at: SocketAddr) -> Self {
        let requester = Requester::new(at.to_string(), Some(pass.run_dir.clone()), DialLimits::default());
        let hello = Hello::new("chaos", "chaos");
        let conversation =
            SealedRequester::new(requester, pass.keys.clone(), pass.server, PeerKind::Operator, hello, None);
        Self { conversation }
    }

    /// Asks once.
    ///
    /// # Errors
    /// Why there is no answer. The question may have been heard.
    pub(crate) async fn ask(&mut self, request: &Request, limit: Duration) -> Result<Answer, String> {
        let body = codec::encode(request).map_err(|error| error.to_string())?;
        match tokio::time::timeout(limit, self.conversation.call(&body, limit)).await {
            Err(_) => Err(format!("no answer within {limit:?}")),
            Ok(Err(error)) => Err(maglica_proto::fault::chain(&error)),
            Ok(Ok(answer)) => codec::decode(&answer).map_err(|error| error.to_string()),
        }
    }
}

/// A client.
pub(crate) struct Client {
    /// Which.
    pub(crate) number: usize,
    /// What it wants, in order.
    pub(crate) wishes: Vec<Wish>,
    /// To be let in.
    pub(crate) pass: Pass,
    /// Where the client worker is, behind the faulty network.
    pub(crate) at: SocketAddr,
    /// What it writes into.
    pub(crate) history: History,
    /// For the pauses.
    pub(crate) dice: Dice,
    /// When the run began.
    pub(crate) began: Instant,
    /// The same in milliseconds since 1970, for the ids of jobs.
    pub(crate) began_ms: u64,
    /// When it gives up.
    pub(crate) until: Instant,
}

impl Client {
    /// Asks for everything. Gives how often it had to ask again.
    pub(crate) async fn run(mut self) -> u64 {
        let (mut first, mut second) = (Operator::new(&self.pass, self.at), Operator::new(&self.pass, self.at));
        let mut retries = 0;
        for wish in std::mem::take(&mut self.wishes) {
            sleep_until((self.began + Duration::from_millis(wish.at)).into()).await;
            let mut other = self.twin();
            let (promised, promised_too) = tokio::join!(self.submit(&mut first, &wish, &mut retries), async {
                if wish.twice { other.submit(&mut second, &wish, &mut 0).await } else { false }
            });
            if !promised && !promised_too {
                continue;
            }
            if let Some(after) = wish.cancel {
                sleep(Duration::from_millis(after)).await;
                self.cancel(&mut first, wish.id(self.began_ms)).await;
            }
            if let Some(after) = wish.again {
                sleep(Duration::from_millis(after)).await;
                self.submit(&mut second, &wish, &mut retries).await;
            }
            if let Some(after) = wish.look {
                sleep(Duration::from_millis(after)).await;
                self.look(&mut first, wish.id(self.began_ms)).await;
            }
        }
        retries
    }

    fn twin(&self) -> Self {
        Self {
            number: self.number,
            wishes: Vec::new(),
            pass: self.pass.clone(),
            at: self.at,
            history: self.history.clone(),
            dice: self.dice.clone(),
            began: self.began,
            began_ms: self.began_ms,
            until: self.until,
        }
    }

    fn note(&self, what: What) {
        self.history.note(self.number, what);
    }

    /// Asks until it is answered; true if the job was promised.
    async fn submit(&mut self, operator: &mut Operator, wish: &Wish, retries: &mut u64) -> bool {
        let id = wish.id(self.began_ms);
        let request = Request::Submit { id, spec: wish.spec.clone() };
        while Instant::now() < self.until {
            self.note(What::Submits { id, spec: wish.spec.clone() });
            match operator.ask(&request, ANSWER).await {
                Ok(Answer::Job(view)) => {
                    self.note(What::Saw { promise: true, view });
                    return true;
                }
                Ok(Answer::Fault { fault }) => {
                    let later = matches!(fault.code, Code::Unavailable);
                    self.note(What::Refused { id, fault });
                    if !later {
                        return false;
                    }
                }
                Ok(answer) => {
                    self.note(What::Silence { id, why: format!("an answer to something else: {answer:?}") });
                }
                Err(why) => self.note(What::Silence { id, why }),
            }
            *retries += 1;
            sleep(Duration::from_millis(self.dice.within(10..150))).await;
        }
        false
    }

    async fn cancel(&mut self, operator: &mut Operator, id: JobId) {
        for _ in 0..3 {
            self.note(What::Cancels { id });
            match operator.ask(&Request::JobCancel { id }, ANSWER).await {
                Ok(Answer::Job(view)) => return self.note(What::Saw { promise: false, view }),
                Ok(Answer::Fault { fault }) => return self.note(What::Refused { id, fault }),
                Ok(answer) => self.note(What::Silence { id, why: format!("an answer to something else: {answer:?}") }),
                Err(why) => self.note(What::Silence { id, why }),
            }
        }
    }

    async fn look(&mut self, operator: &mut Operator, id: JobId) {
        match operator.ask(&Request::JobWatch { id, after: 0, wait_ms: 300 }, ANSWER).await {
            Ok(Answer::Watch { row, .. }) => self.note(What::Listed { row: *row }),
            Ok(answer) => self.note(What::Silence { id, why: format!("no job: {answer:?}") }),
            Err(why) => self.note(What::Silence { id, why }),
        }
        match operator.ask(&Request::JobShow { id }, ANSWER).await {
            Ok(Answer::Job(view)) => self.note(What::Saw { promise: false, view }),
            Ok(answer) => self.note(What::Silence { id, why: format!("no job: {answer:?}") }),
            Err(why) => self.note(What::Silence { id, why }),
        }
    }
}
