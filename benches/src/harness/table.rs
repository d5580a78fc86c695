//! The table: columns, and numbers that can be read.

use std::fmt::Write;

/// Columns wide enough for their widest cell; the first two to the left, figures to the right.
pub(crate) fn align(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let mut out = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Writing to a String cannot fail.
            let _ =
                if column < 2 { write!(out, "{cell:<width$}  ") } else { write!(out, "  {cell:>width$}") };
        }
        text.push_str(out.trim_end());
        text.push('\n');
    }
    text
}

/// Three or four digits that mean something, thousands in groups.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        return small(value);
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// Three digits, for what is below a hundred.
pub(crate) fn small(value: f64) -> String {
    match value.abs() {
        magnitude if magnitude < 0.1 => format!("{value:.3}"),
        magnitude if magnitude < 10.0 => format!("{value:.2}"),
        _ => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let values = [0.012, 1.0, 54.25, 999.4, 1000.0, 1_080_865.0, -1234.0];
        assert_eq!(values.map(number), ["0.012", "1.00", "54.2", "999", "1,000", "1,080,865", "-1,234"]);
    }
}
