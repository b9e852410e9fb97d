//! What every command has at hand: the configuration, the output, the deadline, and the client worker, which is dialled
//! at the first question.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use maglica_proto::{
    config::Config,
    request::{Answer, Request},
};

use crate::{
    client::{self, Client},
    command::Globals,
    error::Error,
    output::Output,
};

/// How long an answer is waited for unless `--timeout` says otherwise.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// What every command has at hand.
pub struct App<'a> {
    /// The configuration.
    pub config: Config,
    /// The file it came from.
    pub file: Option<PathBuf>,
    /// Where everything is shown.
    pub out: &'a Output,
    /// What `--timeout` said.
    pub timeout: Option<Duration>,
    begun: Instant,
    client: Option<Client>,
}

impl<'a> App<'a> {
    /// Reads the configuration.
    ///
    /// # Errors
    /// [`Error::Config`].
    pub fn new(globals: &Globals, out: &'a Output) -> Result<Self, Error> {
        let loaded = Config::load(globals.config.as_deref())?;
        Ok(Self {
            config: loaded.config,
            file: loaded.file,
            out,
            timeout: globals.timeout,
            begun: Instant::now(),
            client: None,
        })
    }

    /// When the command gives up, if it does.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.timeout.map(|limit| self.begun + limit)
    }

    /// The client worker.
    ///
    /// # Errors
    /// [`Error::KeyFile`] if this user has no key.
    pub fn client(&mut self) -> Result<&mut Client, Error> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::open(&self.config)?,
        };
        Ok(self.client.insert(client))
    }

    /// Says what came to be known beside the answers, before these are shown.
    pub fn say_notes(&self) {
        for note in self.client.iter().flat_map(Client::take_notes) {
            self.out.note(&note);
        }
    }

    /// Asks what is answered at once.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn ask(&mut self, request: &Request) -> Result<Answer, Error> {
        let until = Instant::now() + self.timeout.unwrap_or(ANSWER_LIMIT);
        if let Err(error) = self.client() {
            // The key is made at the client worker's first start, so that it does not run is the better answer.
            if matches!(&error, Error::KeyFile(error) if error.is_absent()) {
                client::listens(&self.config.client.rep_addr()).await?;
            }
            return Err(error);
        }
        let answer = self.client()?.ask(request, Duration::ZERO, until).await;
        self.say_notes();
        answer
    }

    /// Asks what is answered by [`Answer::Done`].
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub async fn tell(&mut self, request: &Request) -> Result<(), Error> {
        let Answer::Done = self.ask(request).await? else { return Err(Error::Unexpected(request.verb())) };
        Ok(())
    }
}
