//! What is checked and timed, and how large it is: the user's choice.

use clap::Args;

/// Which problems, and their size.
#[derive(Debug, Clone, Args)]
pub(crate) struct Choice {
    /// Only what has each of these words in its name, like 'd64 dv128 bf16 causal', and for times 'fwd' or 'bwd'.
    #[arg(long, value_name = "WORDS", default_value = "")]
    filter: String,
    /// Tokens of a batch that is timed, a multiple of 16: sequences have a sixteenth of them to all, in checks up to half.
    #[arg(long, value_name = "N", default_value_t = 16_384, value_parser = tokens)]
    pub(crate) tokens: usize,
}

fn tokens(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(tokens) if tokens >= 16 && tokens % 16 == 0 => Ok(tokens),
        _ => Err("expected a multiple of 16".into()),
    }
}

impl Choice {
    /// Whether what is called so is wanted.
    pub(crate) fn takes(&self, name: &str) -> bool {
        self.filter
            .split_whitespace()
            .all(|word| name.contains(word))
    }

    /// A length of a sequence that is checked, at most half of the tokens.
    pub(crate) fn at_most(&self, len: usize) -> usize {
        len.min(self.tokens / 2)
    }
}
