//! The operation `execute`: a suite of other workflows.

use std::collections::HashMap;

use bytes::Bytes;
use muster_proto::runner::v1::{LabelRequirement, SelectWorkflows, children_order::Order};
use muster_spec::{
    plan::{Execute, Member, Selector},
    strategy::Instance,
};
use serde_json::Value;

use super::{
    crew::{self, Rules},
    hands::{Hand, Hands, json},
    instances::Texts,
    transfer::Outgoing,
};
use crate::conductor::operation::{At, Failure};

/// Most members at a time, unless the step says otherwise.
const PARALLELISM: usize = 100;
/// Most members of one step.
const MOST: usize = 10_000;

impl At<'_> {
    /// Runs the workflows of an operation.
    pub(in crate::conductor) async fn execute(
        &self,
        operation: usize,
        execute: &Execute,
    ) -> Result<(), Failure> {
        let texts = Texts::new(self, &execute.env, execute.working_dir.as_deref()).await?;
        let parallelism = texts
            .number("parallelism", execute.parallelism.as_deref())
            .await?;
        let rules = Rules {
            noun: "workflow",
            group: self.run.children.group(self.step),
            operation: u32::try_from(operation).unwrap_or(u32::MAX),
            parallelism: parallelism.unwrap_or(PARALLELISM),
            fail_fast: false,
            detached: execute.detached,
            together: false,
        };
        let mut outgoing = Outgoing::new(self, &rules.group);
        let mut hands = Hands::default();
        for (item, member) in execute.workflows.iter().enumerate() {
            let instances = texts.instances(&member.strategy).await?;
            if instances.is_empty() {
                let text = format!("nothing to run: {}", instances.describe());
                self.run.spool.remark(self.step, &text).await;
            }
            for index in 0..instances.len() {
                let Some(instance) = instances.get(index) else {
                    continue;
                };
                for workflow in self.workflows(&texts, member, &instance).await? {
                    if hands.all.len() >= MOST {
                        let text = format!("more than {MOST} workflows in one step");
                        return Err(Failure::new("STRATEGY", text));
                    }
                    let number = u32::try_from(hands.all.len()).unwrap_or(u32::MAX);
                    let mut config = HashMap::new();
                    for (name, value) in &member.config {
                        let what = format!("config.{name}");
                        config.insert(name.clone(), texts.template(&what, value, &instance).await?);
                    }
                    for (name, files) in &member.tarball {
                        let sent = outgoing.send(&texts, files, &instance, None).await?;
                        let Some(sent) = sent else {
                            let text = format!("tarball `{name}`: no file is there to take");
                            return Err(Failure::new("TRANSFER", text));
                        };
                        let address = format!("muster:{}/{}", sent.execution, sent.path);
                        config.insert(name.clone(), address);
                    }
                    hands.push(Hand {
                        index: number,
                        item: u32::try_from(item).unwrap_or(u32::MAX),
                        label: texts
                            .label(member.description.as_deref(), &instance)
                            .await?,
                        variables: json(instance.variables.clone()),
                        given: Bytes::new(),
                        workflow,
                        config,
                        fetch: Vec::new(),
                        started: false,
                        resumed: false,
                    })?;
                }
            }
        }
        let names: Vec<&str> = hands
            .all
            .iter()
            .map(|hand| hand.workflow.as_str())
            .collect();
        let text = format!("{} workflows: {}", names.len(), shorten(&names.join(", ")));
        self.run.spool.remark(self.step, &text).await;
        crew::work(self, &rules, hands.all).await
    }

    /// Names of the workflows that an item means.
    async fn workflows(
        &self,
        texts: &Texts<'_>,
        member: &Member,
        instance: &Instance,
    ) -> Result<Vec<String>, Failure> {
        if let Some(name) = &member.name {
            return Ok(vec![texts.template("name", name, instance).await?]);
        }
        let Some(selector) = &member.selector else {
            return Ok(Vec::new());
        };
        let order = Order::Select(select(texts, selector, instance).await?);
        let mut found = tokio::select! {
            found = self.run.children.order(order) => found?,
            cause = self.limits.reached() => return Err(Failure::stopped(&cause, self.step)),
        };
        // A suite that selects itself does not mean itself.
        let own = self.sight.context.get("workflow").map(|it| &it["name"]);
        let before = found.len();
        found.retain(|name| own.and_then(Value::as_str) != Some(name));
        if found.len() < before && !found.is_empty() {
            let labels = describe(selector);
            let text = format!("this workflow has the labels {labels} too: it is left out");
            self.run.spool.remark(self.step, &text).await;
        }
        if found.is_empty() {
            let text = format!("no other workflow has the labels {}", describe(selector));
            return Err(Failure::new("SELECTOR_EMPTY", text));
        }
        Ok(found)
    }
}

async fn select(
    texts: &Texts<'_>,
    selector: &Selector,
    instance: &Instance,
) -> Result<SelectWorkflows, Failure> {
    let mut select = SelectWorkflows::default();
    for (label, value) in &selector.labels {
        let value = texts
            .template("selector.matchLabels", value, instance)
            .await?;
        select.match_labels.insert(label.clone(), value);
    }
    for (key, operator, values) in &selector.requirements {
        let mut known = Vec::with_capacity(values.len());
        for value in values {
            let what = "selector.matchExpressions";
            known.push(texts.template(what, value, instance).await?);
        }
        select.match_expressions.push(LabelRequirement {
            key: key.clone(),
            operator: operator.clone(),
            values: known,
        });
    }
    Ok(select)
}

fn describe(selector: &Selector) -> String {
    let labels = selector
        .labels
        .iter()
        .map(|(label, value)| format!("{label}={value}"));
    let requirements = selector
        .requirements
        .iter()
        .map(|(key, operator, values)| format!("{key} {operator} {}", values.join(",")));
    labels.chain(requirements).collect::<Vec<_>>().join(", ")
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(400).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
