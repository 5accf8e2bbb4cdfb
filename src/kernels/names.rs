//! Names of settings: numbers, each after its letter.

use crate::error::Error;

/// The numbers of a name like `r3c4y8x8k32`, each after its letter.
pub(crate) fn numbers<const N: usize>(name: &str, letters: [&str; N]) -> Option<[usize; N]> {
    let mut numbers = [0; N];
    let mut rest = name;
    for (number, letter) in numbers.iter_mut().zip(letters) {
        rest = rest.strip_prefix(letter)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit());
        let (digits, after) = rest.split_at(digits.unwrap_or(rest.len()));
        (*number, rest) = (digits.parse().ok()?, after);
    }
    rest.is_empty().then_some(numbers)
}

/// That no settings have this name.
pub(crate) fn unknown(name: &str, expected: &str) -> Error {
    Error::Settings {
        settings: format!("{name:?}"),
        problem: format!("is no name of settings, expected one {expected}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_numbers_after_their_letters() {
        assert_eq!(numbers("a1b23", ["a", "b"]), Some([1, 23]));
        for wrong in ["", "a1", "a1b", "b1a2", "a1b2c", "a1b2x3", "a-1b2"] {
            assert_eq!(numbers(wrong, ["a", "b"]), None, "{wrong}");
        }
    }
}
