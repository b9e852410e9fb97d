//! `maglica image list`.

use maglica_proto::{
    name::HostName,
    request::{Absence, Answer, ImageRow, Listing, Request},
};
use serde::Serialize;

use crate::{
    app::App,
    error::Error,
    exit::Exit,
    output::{Format, table::Table},
};

/// What `-o json` and `-o yaml` show.
#[derive(Serialize)]
struct Shown<'a> {
    images: &'a [ImageRow],
    absent: &'a [Absence],
}

pub(super) async fn run(on: Option<HostName>, app: &mut App<'_>) -> Result<Exit, Error> {
    let request = Request::ImageList;
    let Answer::Images(Listing { mut rows, mut absent }) = app.ask(&request).await? else {
        return Err(Error::Unexpected(request.verb()));
    };
    if let Some(on) = on {
        rows.retain(|row| row.host == on);
        absent.retain(|absence| absence.host == on);
    }
    let table = || {
        let mut table = Table::new(["Name", "Host", "Disk", "Format", "State"]);
        for row in &rows {
            table.row([
                row.name.to_string(),
                row.host.to_string(),
                row.disk.map(|size| size.to_string()).unwrap_or_default(),
                row.format.clone(),
                row.state.as_str().to_owned(),
            ]);
        }
        table.render()
    };
    app.out.show(&Shown { images: &rows, absent: &absent }, table, || {
        rows.iter().map(|row| row.name.to_string()).collect()
    })?;
    if rows.is_empty() && app.out.format() == Format::Table {
        app.out.note(
            "an image is a virtual machine that is off and whose name ends in .original, or that was made one by 'maglica image mark'",
        );
    }
    Ok(app.out.absent(&absent, "images", |absence| rows.iter().filter(|row| row.host == absence.host).count()))
}
