//! The questions of one text to the world outside of it, what was answered, and what of that may
//! be shown. An evaluation does not wait: it notes a question that has no answer yet and goes on
//! without. Who answers is [`super::outside`].

use std::cell::RefCell;

use muster_spec::expression::{self, Lookup, Value};

use super::operation::Failure;

/// Functions that ask.
pub(super) const ANSWERED: [&str; 4] = ["file", "glob", "jq", CREDENTIAL];
/// The one whose answers are secret.
pub(super) const CREDENTIAL: &str = "credential";
/// Most questions of one text.
const MOST_QUESTIONS: usize = 256;

/// A call of a function.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) function: String,
    pub(super) arguments: Vec<Value>,
    /// Nothing as long as it is open.
    answer: Option<Result<Value, String>>,
}

/// Whether a text may ask for credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Credentials {
    /// Not here: the text is shown or stored somewhere.
    #[default]
    Never,
    /// It is for a process, a file or git.
    Allowed,
    /// It is itself the value of one, so none that is computed again.
    Plain,
}

/// The questions of one text.
#[derive(Debug, Default)]
pub(super) struct Asked {
    questions: RefCell<Vec<Question>>,
    credentials: Credentials,
}

impl Asked {
    /// For a text that may ask for these credentials.
    pub(super) fn with(credentials: Credentials) -> Self {
        Self {
            credentials,
            ..Self::default()
        }
    }

    /// The answer, or a note that there is none yet.
    pub(super) fn ask(&self, function: &str, arguments: &[Value]) -> Lookup {
        if function == CREDENTIAL
            && let Err(refusal) = self.may_ask(arguments)
        {
            return Lookup::Refused(refusal.to_owned());
        }
        let mut questions = self.questions.borrow_mut();
        let same = |known: &&Question| known.function == function && known.arguments == arguments;
        if let Some(known) = questions.iter().find(same) {
            return match &known.answer {
                Some(Ok(value)) => Lookup::Known(value.clone()),
                Some(Err(error)) => Lookup::Refused(error.clone()),
                None => Lookup::Unknown,
            };
        }
        if questions.len() >= MOST_QUESTIONS {
            return Lookup::Refused(format!(
                "more than {MOST_QUESTIONS} calls of {} in one text",
                ANSWERED.join(", ")
            ));
        }
        questions.push(Question {
            function: function.to_owned(),
            arguments: arguments.to_vec(),
            answer: None,
        });
        Lookup::Unknown
    }

    fn may_ask(&self, arguments: &[Value]) -> Result<(), &'static str> {
        match (self.credentials, arguments) {
            (Credentials::Never, _) => Err("`credential` can not stand in this field"),
            (Credentials::Plain, [_, Value::Bool(true)]) => {
                Err("a computed credential can not ask for another one that is computed")
            }
            (_, [_] | [_, Value::Bool(_)]) => Ok(()),
            _ => Err("`credential` takes a name and `true` or `false`"),
        }
    }

    /// Why a text can not be resolved. When a credential may stand in it, as is so where variables
    /// with one are `around`, nothing of it is shown.
    pub(super) fn explain(&self, what: &str, error: &expression::Error, around: bool) -> Failure {
        let questions = self.questions.borrow();
        let of_credentials = || questions.iter().filter(|one| one.function == CREDENTIAL);
        let refused = of_credentials().find_map(|one| one.answer.as_ref()?.as_ref().err());
        if let Some(refused) = refused {
            return Failure::new("CREDENTIAL", format!("{what}: {refused}"));
        }
        let asked = of_credentials().next().is_some();
        if around || asked || self.credentials == Credentials::Plain {
            let text = "it can not be resolved; why is not shown, for a credential stands in it";
            return Failure::expression(what, &text);
        }
        Failure::expression(what, error)
    }

    /// Questions without an answer, with their numbers.
    pub(super) fn open(&self) -> Vec<(usize, Question)> {
        let questions = self.questions.borrow();
        let all = questions.iter().enumerate();
        all.filter(|(_, question)| question.answer.is_none())
            .map(|(index, question)| (index, question.clone()))
            .collect()
    }

    /// Answers the question of a number.
    pub(super) fn answer(&self, index: usize, answer: Result<Value, String>) {
        if let Some(question) = self.questions.borrow_mut().get_mut(index) {
            question.answer = Some(answer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_asked_once_and_answered_from_then_on() {
        let asked = Asked::default();
        let path = [Value::from("/data/x")];
        assert_eq!(asked.ask("file", &path), Lookup::Unknown);
        assert_eq!(asked.ask("file", &path), Lookup::Unknown);
        assert_eq!(asked.open().len(), 1);
        asked.answer(0, Ok("content".into()));
        assert!(asked.open().is_empty());
        assert_eq!(asked.ask("file", &path), Lookup::Known("content".into()));
        assert_eq!(asked.ask("glob", &path), Lookup::Unknown);
    }

    #[test]
    fn credentials_are_asked_for_only_where_they_may_stand() {
        let name = Value::from("token");
        let computed = [name.clone(), true.into()];
        let refused = |credentials, arguments: &[Value]| {
            let asked = Asked::with(credentials);
            matches!(asked.ask(CREDENTIAL, arguments), Lookup::Refused(_))
        };
        assert!(refused(Credentials::Never, std::slice::from_ref(&name)));
        assert!(!refused(Credentials::Allowed, std::slice::from_ref(&name)));
        assert!(!refused(Credentials::Allowed, &computed));
        assert!(!refused(Credentials::Plain, std::slice::from_ref(&name)));
        assert!(refused(Credentials::Plain, &computed));
        assert!(refused(Credentials::Allowed, &[name, "yes".into()]));
    }

    #[test]
    fn nothing_of_a_text_with_a_credential_is_shown() {
        let error = expression::Error::Unresolved("\"hunter2\"+x".to_owned());
        let asked = Asked::with(Credentials::Allowed);
        let shown = asked.explain("shell", &error, false).message;
        assert!(shown.contains("hunter2"), "nothing was asked: {shown}");
        let shown = asked.explain("shell", &error, true).message;
        assert!(!shown.contains("hunter2"), "{shown}");
        asked.ask(CREDENTIAL, &["token".into()]);
        asked.answer(0, Ok("hunter2".into()));
        let failure = asked.explain("shell", &error, false);
        assert_eq!(failure.reason, "EXPRESSION");
        assert!(!failure.message.contains("hunter2"), "{}", failure.message);
        asked.ask(CREDENTIAL, &["other".into()]);
        asked.answer(1, Err("there is none".to_owned()));
        let failure = asked.explain("shell", &error, false);
        assert_eq!(failure.reason, "CREDENTIAL");
        assert_eq!(failure.message, "shell: there is none");
    }

    #[test]
    fn questions_of_one_text_are_limited() {
        let asked = Asked::default();
        for number in 0..MOST_QUESTIONS {
            assert_eq!(asked.ask("file", &[number.into()]), Lookup::Unknown);
        }
        let refused = asked.ask("file", &["one more".into()]);
        assert!(matches!(refused, Lookup::Refused(_)), "{refused:?}");
    }
}
