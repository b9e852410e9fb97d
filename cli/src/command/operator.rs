//! `maglica operator …`.

use std::{io::Read, path::PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use maglica_proto::{
    config::keyfile,
    join::Invitation,
    name::OperatorName,
    request::{Answer, OperatorRow, Request, Role},
};
use serde::Serialize;

use super::host::{Terms, invite};
use crate::{
    app::{ANSWER_LIMIT, App},
    client,
    error::Error,
    exit::Exit,
    input::one,
    output::{table::Table, time},
};

/// An invitation's line is far shorter.
const MAX_LINE: u64 = 4096;

/// Commands about those who may use this command.
#[derive(Debug, Subcommand)]
pub enum Operator {
    /// List them.
    #[command(visible_alias = "ls")]
    List,
    /// Let a person or program in: prints one line for it.
    Add {
        /// Which.
        #[command(flatten)]
        which: Which,
        /// What it may do.
        #[arg(long, value_enum, default_value = "operator", value_name = "ROLE")]
        role: RoleName,
        /// How the line is made.
        #[command(flatten)]
        terms: Terms,
    },
    /// Shut one out for ever.
    Revoke(Which),
    /// Join with the line that `operator add` printed; it is read from stdin or a file.
    Join {
        /// The file with the line.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

/// Which operator.
#[derive(Debug, Args)]
pub struct Which {
    /// The name.
    #[arg(value_name = "NAME")]
    bare: Option<OperatorName>,
    /// The name, as an option.
    #[arg(long = "name", value_name = "NAME")]
    named: Option<OperatorName>,
}

/// What an operator may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum RoleName {
    /// List and show.
    Viewer,
    /// And submit and cancel jobs.
    Operator,
    /// And let hosts and operators in and out.
    Admin,
}

impl From<RoleName> for Role {
    fn from(role: RoleName) -> Self {
        match role {
            RoleName::Viewer => Self::Viewer,
            RoleName::Operator => Self::Operator,
            RoleName::Admin => Self::Admin,
        }
    }
}

/// What `-o json` and `-o yaml` show.
#[derive(Serialize)]
struct Shown<'a> {
    operators: &'a [OperatorRow],
}

impl Which {
    fn operator(self) -> Result<OperatorName, Error> {
        one(self.bare, self.named, "name of the operator", "--name")
    }
}

impl Operator {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        match self {
            Self::List => list(app).await,
            Self::Add { which, role, terms } => {
                let name = which.operator()?;
                let said = format!("{name} runs: maglica operator join < FILE, where FILE holds the line above");
                invite(app, &terms, &said, |invite| Request::OperatorAdd { name, role: role.into(), invite }).await
            }
            Self::Revoke(which) => {
                let name = which.operator()?;
                app.tell(&Request::OperatorRevoke { name: name.clone() }).await?;
                app.out.say(&format!("{name} is shut out"));
                Ok(Exit::Ok)
            }
            Self::Join { file } => join(app, file).await,
        }
    }
}

async fn list(app: &mut App<'_>) -> Result<Exit, Error> {
    let request = Request::OperatorList;
    let Answer::Operators { operators } = app.ask(&request).await? else {
        return Err(Error::Unexpected(request.verb()));
    };
    let table = || {
        let mut table = Table::new(["Name", "Role", "Since", "Key"]);
        for row in &operators {
            table.row([
                row.name.to_string(),
                row.role.as_str().to_owned(),
                time::moment(row.since),
                row.fingerprint.as_ref().map_or_else(|| "invited".to_owned(), ToString::to_string),
            ]);
        }
        table.render()
    };
    app.out
        .show(&Shown { operators: &operators }, table, || operators.iter().map(|row| row.name.to_string()).collect())?;
    Ok(Exit::Ok)
}

async fn join(app: &mut App<'_>, file: Option<PathBuf>) -> Result<Exit, Error> {
    let mut line = String::new();
    match file {
        Some(path) => std::fs::File::open(&path)
            .and_then(|file| file.take(MAX_LINE).read_to_string(&mut line))
            .map_err(|source| Error::File { path, source })?,
        None => std::io::stdin()
            .lock()
            .take(MAX_LINE)
            .read_to_string(&mut line)
            .map_err(|source| Error::File { path: "stdin".into(), source })?,
    };
    let invitation: Invitation = line.parse()?;
    let files = &app.config.operator;
    match keyfile::read_public(&files.server_key) {
        Ok(pinned) if pinned != invitation.key => {
            return Err(Error::OtherServer {
                path: files.server_key.clone(),
                pinned: pinned.fingerprint(),
                invited: invitation.key.fingerprint(),
            });
        }
        Err(error) if !error.is_absent() => return Err(error.into()),
        Ok(_) | Err(_) => {}
    }
    // The key is on the disk before it is enrolled, for the token is good only once.
    let keys = keyfile::read_or_create_private(&files.key)?;
    let (joined, server) = client::join(&keys, &invitation, app.timeout.unwrap_or(ANSWER_LIMIT)).await?;
    keyfile::write_public(&files.server_key, server)?;
    app.out.say(&format!("joined as {joined}"));
    if app.config.client.rep_addr() != invitation.server {
        let file = app.file.clone().unwrap_or_else(|| maglica_proto::config::DEFAULT_PATHS[0].into());
        let (host, port) = invitation.server.rsplit_once(':').unwrap_or((&invitation.server, ""));
        app.out.note(&format!(
            "{} must say where the client worker is: client: {{host: \"{host}\", rep_port: {port}}}",
            file.display()
        ));
    }
    Ok(Exit::Ok)
}
