//! The table, and the same as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use super::cases::{Figure, Scale};
use super::options::Options;
use super::run::{Cell, Outcome, Row};
use crate::harness::table::{align, number, small};

/// The table: a line per figure, a column per server, ratios to the first server in brackets.
#[must_use]
pub fn table(outcome: &Outcome, options: &Options) -> String {
    let mut lines = vec![header(outcome)];
    let mut remarks = Vec::new();
    for row in &outcome.rows {
        for figure in 0..row.case.figures.len() {
            lines.push(line(row, figure, &options.scale));
        }
        remarks.extend(remarks_on(row, outcome, &options.scale));
    }
    let mut text = align(&lines);
    let first = &outcome.servers[0].0;
    let _ = writeln!(
        text,
        "\nMedian of {} rounds of {:?}; in brackets the median ratio to {first} in the same round.",
        options.rounds, options.scale.budget
    );
    let _ = writeln!(text, "~ rounds differ by more than a factor of two. {}", options.placement.describe());
    for (name, traits) in &outcome.servers {
        let _ = writeln!(text, "{name}: {}", traits.version);
    }
    for remark in remarks {
        let _ = writeln!(text, "{remark}");
    }
    text
}

/// Everything, round by round.
#[must_use]
pub fn json(outcome: &Outcome, options: &Options) -> Value {
    let servers: Vec<Value> = outcome
        .servers
        .iter()
        .zip(&options.servers)
        .map(|((name, traits), spec)| {
            json!({
                "name": name, "version": traits.version, "command": spec.words.join(" "),
                "many-clients": traits.many_clients,
            })
        })
        .collect();
    let figures: Vec<Value> = outcome.rows.iter().flat_map(|row| row_json(row, outcome)).collect();
    json!({
        "rounds": options.rounds,
        "seconds": options.scale.budget.as_secs_f64(),
        "monitors": options.scale.monitors,
        "idle-sessions": options.scale.sessions,
        "placement": format!("{:?}", options.placement).to_lowercase(),
        "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "servers": servers,
        "figures": figures,
    })
}

fn row_json(row: &Row, outcome: &Outcome) -> Vec<Value> {
    let mut values = Vec::new();
    for (server, (name, _)) in outcome.servers.iter().enumerate() {
        let head = json!({"test": row.case.name, "server": name});
        match &row.cells[server] {
            Cell::Measured { rounds, note } => {
                for (index, figure) in row.case.figures.iter().enumerate() {
                    let mut value = head.clone();
                    value["figure"] = json!(figure.name);
                    value["unit"] = json!(figure.unit);
                    value["median"] = json!(row.median(server, index));
                    value["ratio-to-first"] = json!(row.ratio(server, index));
                    value["rounds"] = rounds.iter().map(|figures| figures[index]).collect();
                    value["note"] = json!(note);
                    values.push(value);
                }
            }
            Cell::Unavailable => {
                let mut value = head;
                value["unavailable"] = json!(true);
                values.push(value);
            }
            Cell::Failed(why) => {
                let mut value = head;
                value["failed"] = json!(why);
                values.push(value);
            }
        }
    }
    values
}

fn header(outcome: &Outcome) -> Vec<String> {
    let names = outcome.servers.iter().map(|(name, _)| name.clone());
    [String::new(), String::new()].into_iter().chain(names).collect()
}

fn line(row: &Row, figure: usize, scale: &Scale) -> Vec<String> {
    let title = if figure == 0 { row.case.title(scale) } else { String::new() };
    let Figure { name, unit, .. } = row.case.figures[figure];
    let cells = (0..row.cells.len()).map(|server| cell(row, server, figure));
    [title, format!("{name}, {unit}")].into_iter().chain(cells).collect()
}

fn cell(row: &Row, server: usize, figure: usize) -> String {
    let noted = match &row.cells[server] {
        Cell::Measured { note, .. } => note.is_some(),
        Cell::Unavailable => return "n/a".into(),
        Cell::Failed(_) => return "FAILED".into(),
    };
    let mut value = row.median(server, figure).map(number).unwrap_or_default();
    if row.unsteady(server, figure) {
        value.insert(0, '~');
    }
    let star = if noted { " *" } else { "" };
    match row.ratio(server, figure) {
        Some(ratio) if server > 0 => format!("{value} ({}x){star}", small(ratio)),
        _ => format!("{value}{star}"),
    }
}

fn remarks_on(row: &Row, outcome: &Outcome, scale: &Scale) -> Vec<String> {
    let title = row.case.title(scale);
    let remark = |((name, _), cell): (&(String, _), &Cell)| match cell {
        Cell::Measured { note: Some(note), .. } => {
            Some(format!("* {name}, {title}: {note}, one client each"))
        }
        Cell::Failed(why) => Some(format!("FAILED {name}, {title}: {why}")),
        Cell::Measured { .. } | Cell::Unavailable => None,
    };
    outcome.servers.iter().zip(&row.cells).filter_map(remark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::process::Placement;
    use crate::load::cases::CASES;
    use crate::load::server::Traits;

    fn outcome() -> Outcome {
        let traits = Traits { many_clients: true, many_monitors: true, version: "7.2.0 ()".into() };
        let measured = |p50, p99, note| Cell::Measured { rounds: vec![vec![p50, p99]], note };
        Outcome {
            servers: ["floor", "fast", "slow", "lost"].map(|name| (name.into(), traits.clone())).into(),
            rows: vec![Row {
                case: &CASES[0],
                cells: vec![
                    measured(50.0, 80.0, None),
                    measured(60.0, 80.0, None),
                    measured(1234.5, 2_000_000.0, Some("64 monitors".into())),
                    Cell::Failed("it was lost".into()),
                ],
            }],
        }
    }

    fn options() -> Options {
        let (servers, only) = (Vec::new(), Vec::new());
        Options { servers, only, rounds: 1, scale: Scale::default(), placement: Placement::Free, json: None }
    }

    #[test]
    fn the_table_has_values_ratios_and_remarks() {
        let table = table(&outcome(), &options());
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["floor", "fast", "slow", "lost"]);
        let cells: Vec<&str> = lines[1].split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
        let figures = ["50.0", "60.0 (1.20x)", "1,234 (24.7x) *", "FAILED"];
        assert_eq!(cells, [&["query-name, one at a time", "p50, us"][..], &figures].concat());
        assert!(lines[2].contains("2,000,000 (25000.0x)"), "{table}");
        assert!(table.contains("* slow, query-name, one at a time: 64 monitors"), "{table}");
        assert!(table.contains("FAILED lost, query-name, one at a time: it was lost"), "{table}");
    }

    #[test]
    fn json_has_every_round() {
        let json = json(&outcome(), &options());
        let figures = json["figures"].as_array().unwrap();
        assert_eq!(figures.len(), 7);
        assert_eq!(figures[2]["rounds"], json!([60.0]));
        assert_eq!(figures[2]["ratio-to-first"], json!(1.2));
        assert_eq!(figures[6]["failed"], json!("it was lost"));
    }
}
