//! `maglica vm list`: which machines, which columns, in which order.

use std::cmp::Ordering;

use clap::{Args, ValueEnum};
use maglica_proto::request::{Absence, VmRow};
use serde::Serialize;

use super::select::{Filter, list};
use crate::{app::App, error::Error, exit::Exit, input::pattern::Pattern, output::table::Table};

/// Options of `vm list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only those with one of these names, or that fit one of these patterns, such as 'web-*'.
    #[arg(value_name = "NAME")]
    names: Vec<Pattern>,
    /// Which.
    #[command(flatten)]
    filter: Filter,
    /// The columns of the table.
    #[arg(long, value_enum, value_name = "COLUMN", value_delimiter = ',', default_values_t = Column::USUAL)]
    columns: Vec<Column>,
    /// Sort by this column instead of by name.
    #[arg(long, value_enum, value_name = "COLUMN", default_value = "name")]
    sort: Column,
    /// The last first.
    #[arg(long)]
    reverse: bool,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Column {
    /// Its name.
    Name,
    /// Its host.
    Host,
    /// Its state.
    State,
    /// Virtual processors.
    Cpus,
    /// Memory.
    Memory,
    /// Disks as the guest sees them.
    Disk,
    /// Addresses, as far as known.
    Addresses,
    /// The image that it was cloned from.
    Image,
    /// How old this knowledge is.
    Age,
}

impl Column {
    const USUAL: [Self; 7] =
        [Self::Name, Self::Host, Self::State, Self::Cpus, Self::Memory, Self::Disk, Self::Addresses];

    const fn heading(self) -> &'static str {
        match self {
            Self::Name => "Name",
            Self::Host => "Host",
            Self::State => "State",
            Self::Cpus => "CPUs",
            Self::Memory => "Memory",
            Self::Disk => "Disk",
            Self::Addresses => "Addresses",
            Self::Image => "Image",
            Self::Age => "Age",
        }
    }

    fn cell(self, row: &VmRow) -> String {
        match self {
            Self::Name => row.name.to_string(),
            Self::Host => row.host.to_string(),
            Self::State => row.state.as_str().to_owned(),
            Self::Cpus => row.vcpus.to_string(),
            Self::Memory => row.memory.to_string(),
            Self::Disk => row.disk.map(|size| size.to_string()).unwrap_or_default(),
            Self::Addresses => row.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            Self::Image => row.image.as_ref().map(ToString::to_string).unwrap_or_default(),
            Self::Age => crate::output::time::duration(std::time::Duration::from_millis(row.age_ms)),
        }
    }

    fn order(self, a: &VmRow, b: &VmRow) -> Ordering {
        match self {
            Self::Name => a.name.cmp(&b.name),
            Self::Host => a.host.cmp(&b.host),
            Self::State => a.state.as_str().cmp(b.state.as_str()),
            Self::Cpus => a.vcpus.cmp(&b.vcpus),
            Self::Memory => a.memory.cmp(&b.memory),
            Self::Disk => a.disk.cmp(&b.disk),
            Self::Addresses => a.addresses.cmp(&b.addresses),
            Self::Image => a.image.cmp(&b.image),
            Self::Age => a.age_ms.cmp(&b.age_ms),
        }
        .then_with(|| (&a.name, &a.host).cmp(&(&b.name, &b.host)))
    }
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.heading().to_ascii_lowercase())
    }
}

/// What `-o json` and `-o yaml` show of a list.
#[derive(Serialize)]
struct Shown<'a> {
    vms: &'a [VmRow],
    absent: &'a [Absence],
}

impl List {
    pub(super) async fn run(self, app: &mut App<'_>) -> Result<Exit, Error> {
        let (mut rows, mut absent) = list(app).await?;
        self.filter.apply(&mut rows, &mut absent);
        if !self.names.is_empty() {
            rows.retain(|row| self.names.iter().any(|pattern| pattern.fits(row.name.as_str())));
        }
        rows.sort_by(|a, b| self.sort.order(a, b));
        if self.reverse {
            rows.reverse();
        }
        app.out.show(
            &Shown { vms: &rows, absent: &absent },
            || table(&rows, &self.columns),
            || rows.iter().map(|row| row.name.to_string()).collect(),
        )?;
        let of = |absence: &Absence| rows.iter().filter(|row| row.host == absence.host).count();
        Ok(app.out.absent(&absent, "machines", of))
    }
}

fn table(rows: &[VmRow], columns: &[Column]) -> String {
    let mut table = Table::with(columns.iter().map(|column| column.heading()));
    for row in rows {
        table.push(columns.iter().map(|column| column.cell(row)));
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_called_what_is_typed() {
        for column in Column::value_variants() {
            let typed = column.to_possible_value().unwrap();
            assert_eq!(typed.get_name(), column.to_string());
        }
    }
}
