//! What went wrong, and at which line of the PTX.

use std::fmt;

/// A fault: of the text, of the launch, or of the simulated program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Line of the PTX, from 1; 0 where none is to blame.
    pub line: u32,
    /// That line.
    pub text: String,
    /// The thread that was at it.
    pub place: Option<Place>,
    /// What is wrong.
    pub message: String,
}

/// A thread of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Index of the CTA in the grid.
    pub cta: [u32; 3],
    /// Index of the thread in the CTA.
    pub thread: u32,
}

/// What this crate returns.
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of the caller.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::at(0, message)
    }

    pub(crate) fn at(line: u32, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            line,
            text: String::new(),
            place: None,
            message,
        }
    }

    /// Adds the text of the line.
    pub(crate) fn quote(mut self, source: &str) -> Self {
        let index = (self.line as usize).checked_sub(1);
        let line = index.and_then(|index| source.lines().nth(index));
        self.text = line.unwrap_or_default().trim().into();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: `{}`: ", self.line, self.text)?;
        }
        if let Some(Place { cta, thread }) = self.place {
            let (warp, lane) = (thread / 32, thread % 32);
            write!(
                f,
                "CTA {cta:?}, thread {thread} (warp {warp}, lane {lane}): "
            )?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
