//! Columns: left aligned, two spaces between, no wider than the terminal.

use std::io::{self, IsTerminal};

/// What is between columns.
const GAP: &str = "  ";
/// A column is not cut below this.
const NARROWEST: usize = 8;

/// A table in the making.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    #[must_use]
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self::with(headings)
    }

    /// A table with as many columns as there are headings.
    #[must_use]
    pub fn with<'a>(headings: impl IntoIterator<Item = &'a str>) -> Self {
        Self { rows: vec![headings.into_iter().map(str::to_owned).collect()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.push(cells);
    }

    /// Adds a row of as many cells as there are columns.
    pub fn push(&mut self, cells: impl IntoIterator<Item = String>) {
        let plain =
            |cell: String| if cell.is_empty() { "-".to_owned() } else { super::clean(&cell).replace('\n', " ") };
        self.rows.push(cells.into_iter().map(plain).collect());
    }

    /// The text, as wide as stdout allows if that is a terminal.
    #[must_use]
    pub fn render(&self) -> String {
        self.render_within(terminal_width(io::stdout()))
    }

    fn render_within(&self, most: Option<usize>) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let mut widths: Vec<usize> = (0..columns)
            .map(|at| self.rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell)).max().unwrap_or(0))
            .collect();
        if let Some(most) = most {
            while widths.iter().sum::<usize>() + GAP.len() * columns.saturating_sub(1) > most {
                let Some(widest) = widths.iter_mut().max().filter(|width| **width > NARROWEST) else { break };
                *widest -= 1;
            }
        }
        let mut text = String::new();
        for row in &self.rows {
            let line: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| fit(cell, width)).collect();
            text.push_str(line.join(GAP).trim_end());
            text.push('\n');
        }
        text
    }
}

/// Names and values, one a line, for what is shown rather than listed.
#[must_use]
pub fn fields(fields: &[(&str, String)]) -> String {
    let widest = fields.iter().map(|(name, _)| width(name)).max().unwrap_or(0);
    fields
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| {
            let indented = super::clean(value).replace('\n', &format!("\n{}", " ".repeat(widest + GAP.len())));
            format!("{}{GAP}{indented}\n", fit(name, widest))
        })
        .collect()
}

/// The text in exactly this many columns.
#[must_use]
pub fn fit(text: &str, columns: usize) -> String {
    let have = width(text);
    if have <= columns {
        return format!("{text}{}", " ".repeat(columns - have));
    }
    let mut cut: String = text.chars().take(columns.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

/// Names are ASCII nearly always; a wide character makes one row ragged, no more.
fn width(text: &str) -> usize {
    text.chars().count()
}

/// The columns of the terminal behind this stream, if it is one.
pub(crate) fn terminal_width(stream: impl IsTerminal + std::os::fd::AsFd) -> Option<usize> {
    if !stream.is_terminal() {
        return None;
    }
    rustix::termios::tcgetwinsize(stream).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new(["Name", "Host", "Disk", "Format", "State"]);
        table.row(["debian12-x86_64.original", "host0.example.jp", "1.0 GiB", "qcow2", "ready"].map(str::to_owned));
        table.row(["a.original", "", "20.0 GiB", "raw", "running"].map(str::to_owned));
        table
    }

    #[test]
    fn columns_are_left_aligned_with_two_spaces_between_and_none_at_the_end() {
        assert_eq!(
            sample().render_within(None),
            "Name                      Host              Disk      Format  State\n\
             debian12-x86_64.original  host0.example.jp  1.0 GiB   qcow2   ready\n\
             a.original                -                 20.0 GiB  raw     running\n"
        );
    }

    #[test]
    fn the_widest_columns_give_way_on_a_narrow_terminal() {
        let text = sample().render_within(Some(50));
        assert!(text.lines().all(|line| line.chars().count() <= 50), "{text}");
        assert!(text.contains('…') && text.contains("20.0 GiB") && text.contains("running"), "{text}");
        // Too narrow for anything: shown all the same.
        assert_eq!(sample().render_within(Some(1)).lines().count(), 3);
    }

    #[test]
    fn fields_without_a_value_are_left_out_and_lists_are_indented() {
        let text = fields(&[("Name", "vm0".into()), ("Image", String::new()), ("Disks", "vda\nvdb".into())]);
        assert_eq!(text, "Name   vm0\nDisks  vda\n       vdb\n");
    }
}
