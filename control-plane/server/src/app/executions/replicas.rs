//! One execution for each value of labels among the agents: `target.replicate`.

use std::collections::BTreeMap;

use muster_spec::schema::Spec;
use muster_storage::{
    Request,
    agent::Agent,
    execution::{Details, Filter, Target},
    project::Project,
};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{App, Error, Loaded, NewRun, compile, target};

/// Tag of executions that were asked for together; its value is a UUID.
pub(crate) const REPLICAS: &str = "muster.dev/replicas";
/// Most executions of one request.
const MOST: usize = 100;

impl App {
    /// The targets of a run that is to be replicated; nothing for one that is not.
    pub(super) async fn replicas(
        &self,
        project: &Project,
        new: &NewRun,
        loaded: &Loaded,
    ) -> Result<Vec<Target>, Error> {
        let wanted = match &new.target {
            Some(target) if target.replicate.is_empty() => return Ok(Vec::new()),
            Some(target) => target.clone(),
            None if says_so(loaded) => {
                let compiled = compile(loaded, new, &self.trial_identity(loaded))?;
                target(compiled.target.as_ref())
            }
            None => return Ok(Vec::new()),
        };
        if wanted.replicate.is_empty() {
            return Ok(Vec::new());
        }
        let agents = self.agents_of(project.id).await?;
        let labels: Vec<BTreeMap<String, String>> =
            agents.iter().map(Agent::target_labels).collect();
        let targets = wanted.spread(&labels);
        let labels = wanted.replicate.join(", ");
        match targets.len() {
            0 => Err(Error::invalid(
                "target.replicate",
                format!(
                    "no agent of this project that the target matches has the labels to replicate \
                     over ({labels}): see `muster agents`"
                ),
            )),
            found if found > MOST => Err(Error::invalid(
                "target.replicate",
                format!("{found} combinations of {labels}, at most {MOST} are allowed"),
            )),
            _ => Ok(targets),
        }
    }

    /// Accepts an execution for each target. The same request again makes those that are missing.
    pub(super) async fn accept_replicas(
        &self,
        creator: &str,
        project: &Project,
        mut new: NewRun,
        loaded: &Loaded,
        targets: Vec<Target>,
        request: Option<&Request>,
    ) -> Result<Vec<Details>, Error> {
        let group = request
            .and_then(|request| request.id)
            .unwrap_or_else(Uuid::now_v7);
        let mut made = Vec::with_capacity(targets.len());
        new.tags.insert(REPLICAS.to_owned(), group.to_string());
        for (index, target) in targets.into_iter().enumerate() {
            let part = request.map(|request| part(request, index, &target));
            new.target = Some(target);
            let accepted = self.accept(creator, project, &new, loaded, None, part.as_ref());
            made.push(accepted.await?);
        }
        Ok(made)
    }

    /// All that an earlier request has made, when it was replicated.
    pub(super) async fn replicas_of(
        &self,
        project: &Project,
        earlier: &Details,
    ) -> Result<Vec<Details>, Error> {
        let Some(group) = earlier.execution.tags.get(REPLICAS) else {
            return Ok(Vec::new());
        };
        let executions = self.store.executions(project.id);
        let filter = Filter {
            tags: [(REPLICAS.to_owned(), group.clone())].into(),
            ..Filter::default()
        };
        let most = u32::try_from(MOST).unwrap_or(u32::MAX);
        let mut found = executions.list(&filter, None, most).await?.items;
        found.sort_by_key(|execution| execution.number);
        let mut all = Vec::with_capacity(found.len());
        for execution in found {
            all.push(executions.details(execution.id).await?);
        }
        Ok(all)
    }
}

/// Whether the workflow, or a template that may be a part of it, has labels to replicate over.
fn says_so(loaded: &Loaded) -> bool {
    let says = |spec: &Spec| {
        let target = spec.execution.target.as_ref();
        target.is_some_and(|target| !target.replicate.is_empty())
    };
    let mut templates = loaded.templates.iter().chain(&loaded.global);
    says(&loaded.workflow.spec) || templates.any(|template| says(&template.spec))
}

/// The request of one replica: the first one's is that of all, so that a repeat finds it. One without an
/// id can not be repeated, as a whole or in parts.
fn part(request: &Request, index: usize, target: &Target) -> Request {
    let Some(id) = request.id.filter(|_| index > 0) else {
        return request.clone();
    };
    let values = serde_json::to_vec(&target.matches).unwrap_or_default();
    let digest = Sha256::new()
        .chain_update(id)
        .chain_update(values)
        .finalize();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    Request {
        id: Some(uuid::Builder::from_custom_bytes(id).into_uuid()),
        ..request.clone()
    }
}
