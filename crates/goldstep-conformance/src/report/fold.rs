//! Long lines on a narrow terminal.

/// Where the text of a labelled line begins.
const COLUMN: usize = 19;
/// What somebody copies, which a line break would spoil.
const COPIED: [&str; 2] = ["  reproduce ", "  as a unit test "];

/// The text with lines of at most `width` characters, continued below their own text.
///
/// Commands stay whole, and so does what has no space to break at.
#[must_use]
pub fn folded(text: &str, width: usize) -> String {
    let mut out = String::new();
    for line in text.lines() {
        if line.chars().count() <= width || COPIED.iter().any(|label| line.starts_with(label)) {
            out.push_str(line);
        } else {
            fold(line, width, &mut out);
        }
        out.push('\n');
    }
    out
}

fn fold(line: &str, width: usize, out: &mut String) {
    let mut column = 0;
    let mut rest = line;
    while !rest.is_empty() {
        let text = rest.trim_start_matches(' ');
        let word = text.split(' ').next().unwrap_or_default();
        let (blanks, length) = (rest.len() - text.len(), word.chars().count());
        if column > COLUMN && column + blanks + length > width {
            out.push('\n');
            out.push_str(&" ".repeat(COLUMN));
            column = COLUMN;
        } else {
            out.push_str(&rest[..blanks]);
            column += blanks;
        }
        out.push_str(word);
        column += length;
        rest = &text[word.len()..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_continues_below_itself_and_commands_stay_whole() {
        let command = "  reproduce        cargo xtask verify --backend cpu --case a/b\n";
        let text = format!("  in causal order  lr ok · r ok · c WRONG FIRST · v wrong\n{command}");
        let lines =
            ["  in causal order  lr ok · r ok · c", "                   WRONG FIRST · v wrong"];
        assert_eq!(folded(&text, 40), format!("{}\n{command}", lines.join("\n")));
        assert_eq!(folded(&text, 200), text);
        let long = "a".repeat(60);
        assert_eq!(folded(&long, 40), format!("{long}\n"));
    }
}
