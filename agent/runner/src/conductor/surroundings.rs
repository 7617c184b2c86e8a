//! What the texts of a step are resolved with: the environment and the working directory of its
//! process, and the container whose files they may ask for.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use muster_spec::{
    compile::COMPUTED_PREFIX,
    expression::{self, Expression, Template, resolve_template, resolve_template_final},
    plan::{EnvVar, Operation, Step},
};

use super::{
    asked::{Asked, CREDENTIAL, Credentials},
    operation::{At, DEFAULT_BASE, Failure},
    pod::Shim,
    scope::Scope,
};
use crate::{reference, shim::ADDRESS, volumes::resolve};

/// What is around a text.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// `env.*`.
    pub(super) environment: BTreeMap<String, String>,
    /// Some of these variables have values of credentials.
    pub(super) secret: bool,
    /// Absolute; where relative paths begin.
    pub(super) directory: PathBuf,
    /// The container, when the text is about one.
    pub(super) shim: Option<Arc<Shim>>,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            environment: BTreeMap::new(),
            secret: false,
            directory: DEFAULT_BASE.into(),
            shim: None,
        }
    }
}

impl Surroundings {
    /// Whether an error about a text could show the value of a credential.
    fn shows(&self, text: &str) -> bool {
        self.secret && text.contains("env")
    }

    /// Goes to a working directory.
    pub(super) fn enter(&mut self, directory: &str) {
        self.directory = resolve(&self.directory, directory);
    }
}

impl At<'_> {
    /// What is around texts of a container, or of none.
    pub(super) async fn around(&self, shim: Option<&Arc<Shim>>) -> Result<Surroundings, Failure> {
        Ok(self.with_variables(shim, &[]).await?.0)
    }

    /// The same with variables of a process: they, and those of the plan, are resolved in order
    /// and given as `NAME=value` too.
    pub(super) async fn with_variables(
        &self,
        shim: Option<&Arc<Shim>>,
        own: &[EnvVar],
    ) -> Result<(Surroundings, Vec<String>), Failure> {
        let mut around = Surroundings::default();
        if let Some(shim) = shim {
            around.directory = resolve(Path::new("/"), &shim.working_dir);
            around.environment = container_environment(shim);
            around.shim = Some(Arc::clone(shim));
            self.compute(&mut around).await?;
        }
        let mut lines = Vec::new();
        if let Some(address) = &self.run.options.address {
            lines.push(format!("{ADDRESS}={address}"));
            around
                .environment
                .insert(ADDRESS.to_owned(), address.clone());
        }
        for variable in self.run.plan.env.iter().chain(own) {
            let what = format!("env {}", variable.name);
            let value = self.of_process(&what, &variable.value, &around).await?;
            around.secret |= variable.value.contains(CREDENTIAL);
            lines.push(format!("{}={}", variable.name, reference::escape(&value)));
            around.environment.insert(variable.name.clone(), value);
        }
        Ok((around, lines))
    }

    /// Resolves values of the cluster that are templates.
    async fn compute(&self, around: &mut Surroundings) -> Result<(), Failure> {
        let all = around.environment.iter();
        let templates: Vec<(String, String)> = all
            .filter(|(name, value)| name.starts_with(COMPUTED_PREFIX) && value.contains("{{"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        for (name, value) in templates {
            let value = self
                .inside(&name, &value, around)
                .await
                .map_err(|failure| Failure {
                    // The value itself is nobody's business.
                    message: format!(
                        "the value of {name} is no template that can be resolved here"
                    ),
                    ..failure
                })?;
            around.environment.insert(name, value);
        }
        Ok(())
    }

    /// What is around texts of a step as a whole, such as its condition: what is around its first
    /// process, when the text asks for that.
    pub(super) async fn around_step(
        &self,
        step: &Step,
        text: &str,
    ) -> Result<Surroundings, Failure> {
        let asks = ["file", "glob", "env", "workingDir", "path"];
        if !asks.iter().any(|word| text.contains(word)) {
            return Ok(Surroundings::default());
        }
        let mut operations = step.operations.iter();
        let first = operations.find_map(|operation| match operation {
            Operation::Run(run) => Some(run),
            _ => None,
        });
        let Some(process) = first else {
            return self.around_children(step).await;
        };
        let shim = self.shim(process.container).await?;
        let (mut around, _) = self.with_variables(Some(&shim), &process.env).await?;
        if let Some(directory) = &process.working_dir {
            let directory = self.inside("workingDir", directory, &around).await?;
            around.enter(&directory);
        }
        Ok(around)
    }

    /// What is around texts of a step without a process: what is around the workers or members that
    /// it has.
    async fn around_children(&self, step: &Step) -> Result<Surroundings, Failure> {
        for operation in &step.operations {
            let (env, directory) = match operation {
                Operation::Parallel(parallel) => (&parallel.env, &parallel.working_dir),
                Operation::Execute(execute) => (&execute.env, &execute.working_dir),
                _ => continue,
            };
            return self.around_operation(env, directory.as_deref()).await;
        }
        self.around(None).await
    }

    /// What is around texts of an operation in no container.
    pub(super) async fn around_operation(
        &self,
        env: &[EnvVar],
        directory: Option<&str>,
    ) -> Result<Surroundings, Failure> {
        let (mut around, _) = self.with_variables(None, env).await?;
        if let Some(directory) = directory {
            let directory = self.inside("workingDir", directory, &around).await?;
            around.enter(&directory);
        }
        Ok(around)
    }

    /// A text that is resolved to its end.
    pub(super) async fn template(
        &self,
        what: &str,
        text: &str,
        around: &Surroundings,
    ) -> Result<String, Failure> {
        self.resolve(what, text, around, Credentials::Never).await
    }

    /// The same for a text of a process, a file or git, which may ask for credentials.
    pub(super) async fn inside(
        &self,
        what: &str,
        text: &str,
        around: &Surroundings,
    ) -> Result<String, Failure> {
        self.resolve(what, text, around, Credentials::Allowed).await
    }

    /// The same for a text in which `$(NAME)` stands for a variable, where that is written: what
    /// expressions give is left as it is.
    pub(super) async fn of_process(
        &self,
        what: &str,
        text: &str,
        around: &Surroundings,
    ) -> Result<String, Failure> {
        let get = |name: &str| around.environment.get(name).map(String::as_str);
        let expanded = match Template::parse(text) {
            Ok(template) if text.contains('$') => template
                .map_texts(|text| reference::expand(text, get))
                .print(),
            // What is wrong with it is told when it is resolved.
            _ => text.to_owned(),
        };
        self.inside(what, &expanded, around).await
    }

    /// The same for a text that may ask for these credentials.
    pub(super) async fn resolve(
        &self,
        what: &str,
        text: &str,
        around: &Surroundings,
        credentials: Credentials,
    ) -> Result<String, Failure> {
        if !text.contains("{{") {
            return Ok(text.to_owned());
        }
        let asked = Asked::with(credentials);
        let once = |scope: &dyn expression::Scope| resolve_template_final(text, scope);
        let resolved = self.evaluate_with(what, around, &asked, once).await?;
        resolved.map_err(|error| asked.explain(what, &error, around.shows(text)))
    }

    /// Several of them.
    pub(super) async fn templates(
        &self,
        what: &str,
        texts: &[String],
        around: &Surroundings,
    ) -> Result<Vec<String>, Failure> {
        let mut resolved = Vec::with_capacity(texts.len());
        for text in texts {
            resolved.push(self.template(what, text, around).await?);
        }
        Ok(resolved)
    }

    /// Several texts of a process.
    pub(super) async fn all_of_process(
        &self,
        what: &str,
        texts: &[String],
        around: &Surroundings,
    ) -> Result<Vec<String>, Failure> {
        let mut resolved = Vec::with_capacity(texts.len());
        for text in texts {
            resolved.push(self.of_process(what, text, around).await?);
        }
        Ok(resolved)
    }

    /// A text of which what is unknown may stay.
    pub(super) async fn name(&self, text: &str, around: &Surroundings) -> Result<String, Failure> {
        self.evaluate("name", around, |scope| resolve_template(text, scope))
            .await?
            .map_err(|error| Failure::expression("name", &error))
    }

    /// Whether an expression is true.
    pub(super) async fn is_true(&self, text: &str, around: &Surroundings) -> Result<bool, Failure> {
        let what = format!("'{text}'");
        let expression =
            Expression::parse(text).map_err(|error| Failure::expression(&what, &error))?;
        let asked = Asked::default();
        let once = |scope: &dyn expression::Scope| expression.evaluate_bool(scope);
        let evaluated = self.evaluate_with(&what, around, &asked, once).await?;
        evaluated.map_err(|error| asked.explain(&what, &error, around.shows(text)))
    }

    /// Evaluates as often as there are questions to the outside that have no answer yet.
    pub(super) async fn evaluate<T>(
        &self,
        what: &str,
        around: &Surroundings,
        once: impl FnMut(&dyn expression::Scope) -> T,
    ) -> Result<T, Failure> {
        self.evaluate_with(what, around, &Asked::default(), once)
            .await
    }

    async fn evaluate_with<T>(
        &self,
        what: &str,
        around: &Surroundings,
        asked: &Asked,
        mut once: impl FnMut(&dyn expression::Scope) -> T,
    ) -> Result<T, Failure> {
        loop {
            let scope = Scope {
                sight: self.sight,
                around,
                asked,
            };
            let result = once(&scope);
            if !self.answer(what, asked, around).await? {
                return Ok(result);
            }
        }
    }
}

fn container_environment(shim: &Shim) -> BTreeMap<String, String> {
    let lines = shim.environment.iter();
    lines
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}
