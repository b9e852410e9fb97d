//! `maglica key …`: the client worker's own key.

use clap::Subcommand;
use maglica_proto::request::{Answer, KeysView, Request};

use crate::{
    app::App,
    error::Error,
    exit::Exit,
    output::{table::Table, time},
};

/// Commands about the client worker's own key.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// Show it, the next one if there is one, and who has not used that yet.
    Show,
    /// Make the next key. Everybody learns it by itself; until `key retire` both are good.
    Rotate,
    /// End the old key, once everybody uses the next one.
    Retire {
        /// Even if there are hosts that have not used the next one; they have to pin it by hand.
        #[arg(long)]
        force: bool,
    },
}

impl Key {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        let view = ask(app, &Request::KeyShow).await?;
        // The key that is to go is named, so that this asked twice changes one key.
        let fingerprint = view.present.fingerprint.clone();
        match self {
            Self::Show => {
                app.out.show(&view, || table(&view), || vec![view.present.fingerprint.to_string()])?;
                waiting(app, &view);
            }
            Self::Rotate => {
                let view = ask(app, &Request::KeyRotate { fingerprint }).await?;
                if let Some(next) = &view.next {
                    app.out.say(&format!("the client worker's next key is {}", next.fingerprint));
                }
                app.out.note("hosts and operators learn it with their next words; see maglica key show, then: maglica key retire");
            }
            Self::Retire { force } => {
                let after = ask(app, &Request::KeyRetire { fingerprint, force }).await?;
                let (old, new) = (view.present.fingerprint.clone(), after.present.fingerprint);
                app.out.say(&format!("the client worker's key is {new}; {old} is good for nothing any more"));
                waiting(app, &view);
            }
        }
        Ok(Exit::Ok)
    }
}

async fn ask(app: &mut App<'_>, request: &Request) -> Result<KeysView, Error> {
    let Answer::Keys(view) = app.ask(request).await? else { return Err(Error::Unexpected(request.verb())) };
    Ok(*view)
}

fn table(view: &KeysView) -> String {
    let mut table = Table::new(["Key", "Fingerprint", "Since", "Public key"]);
    for (what, key) in [("present", Some(&view.present)), ("next", view.next.as_ref())] {
        if let Some(key) = key {
            let since = time::moment(key.since);
            table.row([what.to_owned(), key.fingerprint.to_string(), since, key.key.to_string()]);
        }
    }
    table.render()
}

/// So many names are said; all of them are in the other forms of the output.
const NAMED: usize = 10;

fn waiting(app: &App<'_>, view: &KeysView) {
    note(app, "hosts that have not used the next key yet", &view.hosts);
    note(app, "operators that have not used the next key yet", &view.operators);
    note(app, "hosts that are to make themselves a new key (maglica host rekey)", &view.rekeying);
}

fn note(app: &App<'_>, what: &str, names: &[impl ToString]) {
    let mut said: Vec<String> = names.iter().take(NAMED).map(ToString::to_string).collect();
    if names.len() > NAMED {
        said.push(format!("{} others", names.len() - NAMED));
    }
    if !said.is_empty() {
        app.out.note(&format!("{what}: {}", said.join(", ")));
    }
}
