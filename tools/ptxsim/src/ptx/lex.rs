//! Characters to tokens, and a cursor over them.

use super::fail;
use crate::error::Result;

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A name, number, directive or opcode.
    Word(String),
    Mark(char),
    /// A string; none matters.
    Text,
}

/// Reads tokens one after the other.
pub struct Cursor {
    tokens: Vec<(Token, u32)>,
    at: usize,
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '%' | '.')
}

/// The length of the word at the beginning; `::` is part of it.
fn word_length(text: &str) -> usize {
    let mut rest = text;
    loop {
        rest = rest.trim_start_matches(is_word);
        match rest.strip_prefix("::") {
            Some(after) => rest = after,
            None => return text.len() - rest.len(),
        }
    }
}

/// Whether a line only says where in the source its code comes from.
fn is_debug(line: &str) -> bool {
    let first = line.split_whitespace().next();
    matches!(first, Some(".loc" | ".file"))
}

/// The text without comments, as long as before.
fn strip_comments(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("/*") {
        let line_comment = rest[..start].rfind("//");
        if line_comment.is_some_and(|at| !rest[at..start].contains('\n')) {
            let end = rest[start..].find('\n').map_or(rest.len(), |n| start + n);
            out += &rest[..end];
            rest = &rest[end..];
            continue;
        }
        let end = rest[start..]
            .find("*/")
            .map_or(rest.len(), |n| start + n + 2);
        out += &rest[..start];
        out.extend(rest[start..end].chars().filter(|c| *c == '\n'));
        rest = &rest[end..];
    }
    out + rest
}

impl Cursor {
    pub fn new(source: &str) -> Self {
        let mut tokens = Vec::new();
        for (line, number) in strip_comments(source).lines().zip(1..) {
            if !is_debug(line) {
                lex_line(line, number, &mut tokens);
            }
        }
        Self { tokens, at: 0 }
    }

    pub fn line(&self) -> u32 {
        let last = self.tokens.len().saturating_sub(1);
        self.tokens.get(self.at.min(last)).map_or(0, |t| t.1)
    }

    pub fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|t| &t.0)
    }

    pub fn peek_word(&self) -> Option<&str> {
        match self.peek() {
            Some(Token::Word(word)) => Some(word),
            _ => None,
        }
    }

    pub fn advance(&mut self) {
        self.at += 1;
    }

    pub fn is(&self, mark: char) -> bool {
        self.peek() == Some(&Token::Mark(mark))
    }

    /// Whether the token after the next is this mark.
    pub fn is_second(&self, mark: char) -> bool {
        matches!(self.tokens.get(self.at + 1), Some((Token::Mark(c), _)) if *c == mark)
    }

    pub fn eat(&mut self, mark: char) -> bool {
        let found = self.is(mark);
        self.at += found as usize;
        found
    }

    pub fn eat_word(&mut self, word: &str) -> bool {
        let found = self.peek_word() == Some(word);
        self.at += found as usize;
        found
    }

    pub fn expect(&mut self, mark: char) -> Result<()> {
        if self.eat(mark) {
            return Ok(());
        }
        fail(
            self.line(),
            format!("expected '{mark}', found {:?}", self.peek()),
        )
    }

    pub fn word(&mut self) -> Result<String> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            other => fail(self.line(), format!("expected a name, found {other:?}")),
        }
    }

    pub fn integer(&mut self) -> Result<i64> {
        let line = self.line();
        let word = self.word()?;
        match integer(&word) {
            Some(v) => Ok(v),
            None => fail(line, format!("expected a number, found {word}")),
        }
    }

    pub fn skip_past(&mut self, mark: char) {
        while self.peek().is_some() && !self.eat(mark) {
            self.at += 1;
        }
    }

    /// Skips a block with all blocks in it.
    pub fn skip_block(&mut self) {
        let mut depth = 0;
        while let Some(token) = self.peek() {
            match token {
                Token::Mark('{') => depth += 1,
                Token::Mark('}') => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                break;
            }
        }
    }

    /// `x`, `x, y` or `x, y, z`; 1 where absent.
    pub fn dims(&mut self) -> Result<[u32; 3]> {
        let mut dims = [1; 3];
        for dim in &mut dims {
            *dim = self.integer()? as u32;
            if !self.eat(',') {
                break;
            }
        }
        Ok(dims)
    }
}

fn lex_line(line: &str, number: u32, tokens: &mut Vec<(Token, u32)>) {
    let mut rest = line.trim_start();
    while let Some(c) = rest.chars().next() {
        if rest.starts_with("//") {
            return;
        }
        let (token, length) = match c {
            '"' => {
                let end = rest[1..].find('"').map_or(rest.len(), |n| n + 2);
                (Token::Text, end)
            }
            c if is_word(c) => {
                let end = word_length(rest);
                (Token::Word(rest[..end].into()), end)
            }
            c => (Token::Mark(c), c.len_utf8()),
        };
        tokens.push((token, number));
        rest = rest[length..].trim_start();
    }
}

/// Decimal, `0x` and `0b` integers, with or without a `U`.
pub fn integer(word: &str) -> Option<i64> {
    let word = word.strip_suffix('U').unwrap_or(word);
    let lower = word.to_ascii_lowercase();
    let v = if let Some(hex) = lower.strip_prefix("0x") {
        u64::from_str_radix(hex, 16).ok()?
    } else if let Some(binary) = lower.strip_prefix("0b") {
        u64::from_str_radix(binary, 2).ok()?
    } else {
        lower.parse().ok()?
    };
    Some(v as i64)
}
