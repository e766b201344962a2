//! From libtorch's messages to ours.

use goldstep_core::Error;
use tch::TchError;

/// The longest message that is passed on, in characters.
const LONGEST_MESSAGE: usize = 300;

/// Names what failed.
pub(crate) trait Context<T> {
    /// The error of an operation on the parameter `name`.
    fn on(self, operation: &str, name: &str) -> Result<T, Error>;
}

impl<T> Context<T> for Result<T, TchError> {
    fn on(self, operation: &str, name: &str) -> Result<T, Error> {
        self.map_err(|error| Error::Backend {
            what: format!("{operation} of {name}"),
            message: first_sentence(&error),
        })
    }
}

/// The first sentence of libtorch's message, which may run to 25 lines of stack trace.
pub(crate) fn first_sentence(error: &TchError) -> String {
    let message = match error {
        TchError::Torch(message) => message.clone(),
        other => other.to_string(),
    };
    let line = message.lines().next().unwrap_or_default();
    let end = line.find(". ").unwrap_or(line.len());
    let sentence = line[..end].trim_end_matches('.');
    match sentence.char_indices().nth(LONGEST_MESSAGE) {
        Some((cut, _)) => format!("{}…", &sentence[..cut]),
        None => sentence.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sentence_is_the_message() {
        let error = |text: &str| first_sentence(&TchError::Torch(text.to_owned()));
        assert_eq!(
            error("expected 2.5 rows. Got 3.\nException raised from x"),
            "expected 2.5 rows"
        );
        assert_eq!(error("out of memory\n#0 frame\n#1 frame"), "out of memory");
        assert_eq!(error(&"x".repeat(1000)).chars().count(), LONGEST_MESSAGE + 1);
    }

    #[test]
    fn libtorch_messages_lose_their_stack() {
        let tensor = tch::Tensor::zeros([2, 3], (tch::Kind::Float, tch::Device::Cpu));
        let error = tensor.f_view([4, 4]).on("view", "w").unwrap_err().to_string();
        assert_eq!(error, "view of w: shape '[4, 4]' is invalid for input of size 6");
    }
}
