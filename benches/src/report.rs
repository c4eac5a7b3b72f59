//! Tables of what was measured, and the document that holds them.

use std::time::Duration;

use anyhow::{Result, bail};
use smart_sync_tests::Totals;

use crate::measure::Usage;

/// What several runs of one thing used.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// What was run.
    pub(crate) what: String,
    pub(crate) usages: Vec<Usage>,
    pub(crate) wire: Option<Totals>,
    /// Bytes that it left on the disk.
    pub(crate) stored: Option<u64>,
    /// Bytes per second.
    pub(crate) throughput: Vec<u64>,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    /// The middle of the wall times.
    pub(crate) fn wall(&self) -> Option<Duration> {
        middle(self.usages.iter().map(|usage| usage.wall))
    }

    /// The middle of the CPU times.
    pub(crate) fn cpu(&self) -> Option<Duration> {
        middle(self.usages.iter().map(|usage| usage.cpu))
    }

    /// The largest peak memory.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.usages.iter().map(|usage| usage.memory).max()
    }
}

/// One workload's part of the report.
#[derive(Debug)]
pub(crate) struct Section {
    pub(crate) title: String,
    /// What was done, so that a reader can judge whether it is fair.
    pub(crate) method: String,
    /// Tables of another form, above that of the rows.
    pub(crate) tables: Vec<Table>,
    pub(crate) rows: Vec<Row>,
    /// What had to be reached, and whether it was.
    pub(crate) bars: Vec<Bar>,
}

/// A table whose columns are its own; the first holds names, the others figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    fn lines(&self) -> Vec<String> {
        let cell = |cell: &String| if cell.is_empty() { " |".to_owned() } else { format!(" {cell} |") };
        let line = |cells: &[String]| format!("|{}", cells.iter().map(cell).collect::<String>());
        let mut lines = vec![line(&self.head)];
        lines.push(format!("|---|{}", "---:|".repeat(self.head.len().saturating_sub(1))));
        lines.extend(self.rows.iter().map(|row| line(row)));
        lines
    }
}

/// Something that had to be reached.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) text: String,
    /// `None` when it was not measured.
    pub(crate) met: Option<bool>,
    /// By how much, where that says more.
    pub(crate) detail: Option<String>,
}

impl Bar {
    pub(crate) fn new(text: impl Into<String>, met: Option<bool>) -> Self {
        Self { text: text.into(), met, detail: None }
    }

    pub(crate) fn with_detail(self, detail: String) -> Self {
        Self { detail: Some(detail), ..self }
    }

    /// A bar that a figure may not exceed.
    pub(crate) fn at_most(text: &str, found: Option<u64>, bound: u64) -> Self {
        let bar = Self::new(text, found.map(|found| found <= bound));
        match found {
            Some(found) if found > bound => {
                bar.with_detail(format!("missed: {} instead of {}", grouped(found), grouped(bound)))
            }
            _ => bar,
        }
    }

    /// A bar that two figures decide, if there are both.
    pub(crate) fn compare<T>(
        text: &str,
        ours: Option<T>,
        theirs: Option<T>,
        met: impl FnOnce(T, T) -> bool,
    ) -> Self {
        Self::new(text, ours.zip(theirs).map(|(ours, theirs)| met(ours, theirs)))
    }
}

struct Column {
    title: &'static str,
    cell: fn(&Row) -> Option<String>,
}

const COLUMNS: &[Column] = &[
    Column { title: "wall, s", cell: |row| series(row.usages.iter().map(|usage| seconds(usage.wall))) },
    Column { title: "CPU, s", cell: |row| series(row.usages.iter().map(|usage| seconds(usage.cpu))) },
    Column { title: "peak memory, MiB", cell: |row| row.memory().map(|bytes| mebibytes(bytes).to_string()) },
    Column {
        title: "throughput, MiB/s",
        cell: |row| series(row.throughput.iter().map(|rate| mebibytes(*rate))),
    },
    Column {
        title: "requests",
        cell: |row| row.wire.filter(|wire| wire.requests > 0).map(|wire| wire.requests.to_string()),
    },
    Column { title: "sent, bytes", cell: |row| row.wire.map(|wire| grouped(wire.sent)) },
    Column { title: "received, bytes", cell: |row| row.wire.map(|wire| grouped(wire.received)) },
    Column { title: "stored, MiB", cell: |row| row.stored.map(|bytes| mebibytes(bytes).to_string()) },
];

impl Section {
    pub(crate) fn to_markdown(&self, stamp: &str) -> String {
        let mut lines =
            vec![format!("### {}", self.title), String::new(), self.method.clone(), String::new()];
        for table in &self.tables {
            lines.extend(table.lines());
            lines.push(String::new());
        }
        if !self.rows.is_empty() {
            lines.extend(rows_table(&self.rows).lines());
            lines.push(String::new());
        }
        for bar in &self.bars {
            let verdict = match bar.met {
                Some(true) => "reached",
                Some(false) => "**not reached**",
                None => "not measured",
            };
            let detail = bar.detail.as_ref().map(|detail| format!(", {detail}")).unwrap_or_default();
            lines.push(format!("- {}: {verdict}{detail}", bar.text));
        }
        if !self.bars.is_empty() {
            lines.push(String::new());
        }
        lines.push(stamp.to_owned());
        lines.join("\n")
    }
}

/// The columns that at least one row has a figure for.
fn rows_table(rows: &[Row]) -> Table {
    let used: Vec<&Column> =
        COLUMNS.iter().filter(|column| rows.iter().any(|row| (column.cell)(row).is_some())).collect();
    let mut head = vec![String::new()];
    head.extend(used.iter().map(|column| column.title.to_owned()));
    let line = |row: &Row| {
        let mut cells = vec![row.what.clone()];
        cells.extend(used.iter().map(|column| (column.cell)(row).unwrap_or_default()));
        cells
    };
    Table { head, rows: rows.iter().map(line).collect() }
}

/// Puts each section between its markers, `<!-- begin NAME -->` and `<!-- end NAME -->`.
pub(crate) fn replace_sections(document: &str, sections: &[(String, String)]) -> Result<String> {
    let mut document = document.to_owned();
    for (name, text) in sections {
        let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
        let Some((start, stop)) = document.find(&begin).zip(document.find(&end)) else {
            bail!("the report has no markers for {name}");
        };
        let start = start + begin.len();
        if start > stop {
            bail!("the report's markers for {name} are in the wrong order");
        }
        document.replace_range(start..stop, &format!("{text}\n"));
    }
    Ok(document)
}

fn middle<T: Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort();
    let middle = values.len() / 2;
    values.into_iter().nth(middle)
}

/// The median, and the smallest and largest when there are several.
fn series(values: impl Iterator<Item = Fixed>) -> Option<String> {
    let values: Vec<Fixed> = values.collect();
    let median = middle(values.iter().copied())?;
    let (min, max) = (values.iter().min()?, values.iter().max()?);
    Some(if values.len() == 1 { median.to_string() } else { format!("{median} ({min}–{max})") })
}

/// A number with a few decimals, kept as an integer so that it sorts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fixed {
    thousandths: u128,
}

impl std::fmt::Display for Fixed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (whole, rest) = (self.thousandths / 1000, self.thousandths % 1000);
        match whole {
            0 => write!(formatter, "{whole}.{rest:03}"),
            1..=99 => write!(formatter, "{whole}.{:02}", rest / 10),
            _ => write!(formatter, "{whole}"),
        }
    }
}

fn seconds(time: Duration) -> Fixed {
    Fixed { thousandths: time.as_millis() }
}

fn mebibytes(bytes: u64) -> Fixed {
    Fixed { thousandths: u128::from(bytes) * 1000 / (1024 * 1024) }
}

/// Bytes with three digits: `512`, `1.23 K`, `45.6 M`, in powers of ten.
pub(crate) fn short(bytes: u64) -> String {
    let units = ["", " K", " M", " G"];
    let mut unit = 0;
    let mut divisor = 1;
    while unit + 1 < units.len() && bytes / divisor >= 1000 {
        unit += 1;
        divisor *= 1000;
    }
    if unit == 0 {
        return bytes.to_string();
    }
    let hundredths = bytes * 100 / divisor;
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    let digits = match whole {
        0..=9 => format!("{whole}.{rest:02}"),
        10..=99 => format!("{whole}.{}", rest / 10),
        _ => whole.to_string(),
    };
    format!("{digits}{}", units[unit])
}

/// `1.15`; more digits are noise.
pub(crate) fn ratio(above: u64, below: u64) -> String {
    let below = u128::from(below.max(1));
    let hundredths = (u128::from(above) * 100 + below / 2) / below;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        let check = |milliseconds, expected: &str| {
            assert_eq!(seconds(Duration::from_millis(milliseconds)).to_string(), expected);
        };
        check(7, "0.007");
        check(1_234, "1.23");
        check(123_456, "123");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(12), "12");
        let sizes = [0, 999, 1_000, 12_345, 999_999, 1_234_567, 2_147_483_648].map(short);
        assert_eq!(sizes, ["0", "999", "1.00 K", "12.3 K", "999 K", "1.23 M", "2.14 G"]);
        assert_eq!((ratio(115, 100).as_str(), ratio(5, 0).as_str()), ("1.15", "5.00"));
    }

    #[test]
    fn a_table_has_the_columns_that_were_measured() {
        let mut row = Row::new("one");
        for wall in [3, 1, 2] {
            row.usages.push(Usage {
                wall: Duration::from_secs(wall),
                cpu: Duration::from_secs(1),
                memory: 1 << 20,
            });
        }
        let bars = vec![Bar::new("fast", Some(false)).with_detail("missed by a second".to_owned())];
        let tables = vec![Table {
            head: ["", "a"].map(str::to_owned).to_vec(),
            rows: vec![["one", "2"].map(str::to_owned).to_vec()],
        }];
        let section =
            Section { title: "Title".to_owned(), method: "How.".to_owned(), tables, rows: vec![row], bars };
        let text = section.to_markdown("Stamp.");
        assert!(text.contains("| | wall, s | CPU, s | peak memory, MiB |\n|---|---:|---:|---:|\n"), "{text}");
        assert!(text.contains("| one | 2.00 (1.00–3.00) | 1.00 (1.00–1.00) | 1.00 |"), "{text}");
        assert!(text.contains("How.\n\n| | a |\n|---|---:|\n| one | 2 |\n\n| | wall"), "{text}");
        assert!(text.contains("- fast: **not reached**, missed by a second"), "{text}");
    }

    #[test]
    fn only_the_named_sections_are_replaced() {
        let document = "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n<!-- begin y -->\n<!-- end y -->\n";
        let sections = [("x".to_owned(), "new".to_owned())];
        let expected = "a\n<!-- begin x -->\nnew\n<!-- end x -->\nb\n<!-- begin y -->\n<!-- end y -->\n";
        assert_eq!(replace_sections(document, &sections).unwrap(), expected);
        assert!(replace_sections("", &sections).is_err());
    }
}
