//! `rename_all`, by serde's rules: the wire name is made of the Rust name before anything is described.

/// How names are rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Case {
    Lower,
    Upper,
    Pascal,
    Camel,
    Snake,
    ScreamingSnake,
    Kebab,
    ScreamingKebab,
}

impl Case {
    /// The rule that serde knows under this name.
    pub(crate) fn from_serde(name: &str) -> Option<Self> {
        Some(match name {
            "lowercase" => Self::Lower,
            "UPPERCASE" => Self::Upper,
            "PascalCase" => Self::Pascal,
            "camelCase" => Self::Camel,
            "snake_case" => Self::Snake,
            "SCREAMING_SNAKE_CASE" => Self::ScreamingSnake,
            "kebab-case" => Self::Kebab,
            "SCREAMING-KEBAB-CASE" => Self::ScreamingKebab,
            _ => return None,
        })
    }

    /// Rewrites a field's name, which is in `snake_case`.
    pub(crate) fn field(self, name: &str) -> String {
        match self {
            Self::Lower | Self::Snake => name.to_owned(),
            Self::Upper | Self::ScreamingSnake => name.to_ascii_uppercase(),
            Self::Kebab => name.replace('_', "-"),
            Self::ScreamingKebab => name.to_ascii_uppercase().replace('_', "-"),
            Self::Pascal => name.split('_').map(capitalized).collect(),
            Self::Camel => uncapitalized(&Self::Pascal.field(name)),
        }
    }

    /// Rewrites a variant's name, which is in `PascalCase`.
    pub(crate) fn variant(self, name: &str) -> String {
        match self {
            Self::Pascal => name.to_owned(),
            Self::Lower => name.to_ascii_lowercase(),
            Self::Upper => name.to_ascii_uppercase(),
            Self::Camel => uncapitalized(name),
            Self::Snake | Self::ScreamingSnake | Self::Kebab | Self::ScreamingKebab => {
                self.field(&split_at_capitals(name))
            }
        }
    }
}

fn split_at_capitals(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for (index, letter) in name.char_indices() {
        if index > 0 && letter.is_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn capitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn uncapitalized(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(letters).collect()
}

#[cfg(test)]
mod tests {
    use super::Case;

    const ALL: [&str; 8] = [
        "lowercase",
        "UPPERCASE",
        "PascalCase",
        "camelCase",
        "snake_case",
        "SCREAMING_SNAKE_CASE",
        "kebab-case",
        "SCREAMING-KEBAB-CASE",
    ];

    fn all(rename: impl Fn(Case) -> String) -> Vec<String> {
        ALL.iter().map(|name| rename(Case::from_serde(name).unwrap())).collect()
    }

    #[test]
    fn fields() {
        assert_eq!(
            all(|case| case.field("poll_max_ns")),
            [
                "poll_max_ns",
                "POLL_MAX_NS",
                "PollMaxNs",
                "pollMaxNs",
                "poll_max_ns",
                "POLL_MAX_NS",
                "poll-max-ns",
                "POLL-MAX-NS"
            ]
        );
    }

    #[test]
    fn variants() {
        assert_eq!(
            all(|case| case.variant("FinishMigrate2")),
            [
                "finishmigrate2",
                "FINISHMIGRATE2",
                "FinishMigrate2",
                "finishMigrate2",
                "finish_migrate2",
                "FINISH_MIGRATE2",
                "finish-migrate2",
                "FINISH-MIGRATE2"
            ]
        );
    }

    #[test]
    fn unknown_rules_are_refused() {
        assert_eq!(Case::from_serde("Train-Case"), None);
    }
}
