//! Who is served and who is not, and why: over the real link and API.

use std::time::Duration;

use jiff::Timestamp;
use muster_core::clock::Clock;
use muster_proto::v1::{
    CancelExecutionRequest, CordonAgentRequest, CreateExecutionRequest, Credit, DrainAgentRequest,
    Execution, ExplainExecutionRequest, ExplainExecutionResponse, GetQueueRequest,
    PauseProjectRequest, PauseQueueRequest, Project, ResumeProjectRequest, ResumeQueueRequest,
    Target, UncordonAgentRequest, UpdateProjectRequest, attempt_report::Phase,
    create_execution_request::Source, execution::State, link_request::Message, link_response,
    refusal::Reason,
};
use tonic::Code;

use super::{
    agent::Agent,
    fixture::{Clients, Fixture, WORKFLOW, run, run_text},
};

async fn explain(clients: &mut Clients, name: &str) -> ExplainExecutionResponse {
    let request = ExplainExecutionRequest {
        name: name.to_owned(),
    };
    let explained = clients.executions.explain_execution(request).await;
    explained.expect("it is explained").into_inner()
}

fn reasons(explained: &ExplainExecutionResponse) -> Vec<&str> {
    let all = explained.hindrances.iter();
    all.map(|one| one.reason.as_str()).collect()
}

/// What an agent says to the execution.
fn verdict<'a>(explained: &'a ExplainExecutionResponse, agent: &str) -> Option<&'a str> {
    let of_agent = explained.agents.iter().find(|one| one.agent == agent);
    let hindrance = of_agent.expect("it is told of").hindrance.as_ref();
    hindrance.map(|one| one.reason.as_str())
}

/// An agent asks for work and does not get the execution, for this reason and in these words.
async fn is_held(
    clients: &mut Clients,
    agent: &Agent,
    made: &Execution,
    reason: &str,
    words: &str,
) {
    let credit = Credit {
        slots: 4,
        exempt: 0,
    };
    agent.say(Message::Credit(credit)).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let explained = explain(clients, &made.name).await;
    assert_eq!(reasons(&explained), [reason]);
    let message = &explained.hindrances[0].message;
    assert!(message.contains(words), "{message}");
}

#[tokio::test]
async fn what_waits_is_told_why_and_which_agents_were_refused() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let first = admin.create(run()).await;
    let nobody = explain(&mut admin, &first.name).await;
    assert_eq!(reasons(&nobody), ["NO_AGENT"]);
    assert_eq!(nobody.queued_before, Some(0));
    let token = fixture.agent("east").await;
    fixture.agent("west").await;
    let (_agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let target = "  execution: {target: {match: {region: west}}}\n";
    let second = admin.create(run_text(&format!("{WORKFLOW}{target}"))).await;
    let explained = explain(&mut admin, &second.name).await;
    assert_eq!(reasons(&explained), ["NO_ROOM"]);
    assert_eq!(explained.queued_before, Some(1));
    assert_eq!(verdict(&explained, "east"), Some("LABELS"));
    assert_eq!(verdict(&explained, "west"), Some("AWAY"));
    let target = "  execution: {target: {match: {region: moon}}}\n";
    let third = admin.create(run_text(&format!("{WORKFLOW}{target}"))).await;
    let explained = explain(&mut admin, &third.name).await;
    assert_eq!(reasons(&explained), ["NO_MATCH"]);
    let east = &explained.agents[0]
        .hindrance
        .as_ref()
        .expect("refused")
        .message;
    assert!(east.contains("'east'") && east.contains("moon"), "{east}");
    let missing = ExplainExecutionRequest {
        name: "projects/default/executions/nothing-1".to_owned(),
    };
    let missing = admin.executions.explain_execution(missing).await;
    assert_eq!(missing.expect_err("not there").code(), Code::NotFound);
}

#[tokio::test]
async fn a_replicated_run_is_made_once_for_each_value_that_agents_have() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let replicated = format!("{WORKFLOW}  execution: {{target: {{replicate: [region]}}}}\n");
    let refused = admin.executions.create_execution(run_text(&replicated));
    let refused = refused.await.expect_err("there is no agent");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("muster agents"), "{refused}");
    for name in ["west", "east"] {
        fixture.agent(name).await;
    }
    let mut request = run_text(&replicated);
    request.request_id = uuid::Uuid::new_v4().to_string();
    let made = admin.executions.create_execution(request.clone()).await;
    let made = made.expect("it is accepted").into_inner();
    let regions = made.replicas.iter().map(|one| {
        let target = one.target.as_ref().expect("a target");
        assert!(target.replicate.is_empty());
        target.r#match["region"].values.join(" ")
    });
    assert_eq!(regions.collect::<Vec<_>>(), ["east", "west"]);
    assert_eq!(made.execution, made.replicas.first().cloned());
    let again = admin.executions.create_execution(request.clone()).await;
    let names =
        |all: &[Execution]| -> Vec<String> { all.iter().map(|one| one.name.clone()).collect() };
    let again = again.expect("it is a repeat").into_inner();
    assert_eq!(names(&again.replicas), names(&made.replicas));
    assert_eq!(admin.queued().await, 2);
    // One of them run again is none of them.
    let rerun = CreateExecutionRequest {
        source: Some(Source::Execution(made.replicas[1].name.clone())),
        ..run()
    };
    let rerun = admin.executions.create_execution(rerun).await;
    let rerun = rerun.expect("it is accepted").into_inner();
    assert_eq!(rerun.replicas, []);
    assert!(
        !rerun
            .execution
            .expect("an execution")
            .tags
            .contains_key("muster.dev/replicas")
    );
    let again = admin.executions.create_execution(request.clone()).await;
    let again = again.expect("it is a repeat").into_inner();
    assert_eq!(names(&again.replicas), names(&made.replicas));
    // Without an id nothing is a repeat, as a whole or in parts.
    request.request_id.clear();
    let queued = admin.queued().await;
    for times in 1..=2 {
        let more = admin.executions.create_execution(request.clone()).await;
        assert_eq!(more.expect("it is accepted").into_inner().replicas.len(), 2);
        assert_eq!(admin.queued().await, queued + 2 * times);
    }
    // Another target in the request wins.
    request.request_id = uuid::Uuid::new_v4().to_string();
    request.target = Some(Target {
        r#match: made.replicas[0].target.clone().expect("a target").r#match,
        ..Target::default()
    });
    let alone = admin.executions.create_execution(request).await;
    assert_eq!(alone.expect("it is accepted").into_inner().replicas, []);
}

#[tokio::test]
async fn a_paused_project_begins_nothing_and_says_so() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let pause = PauseProjectRequest {
        name: "projects/default".to_owned(),
        message: "an incident".to_owned(),
        ..PauseProjectRequest::default()
    };
    admin.projects.pause_project(pause).await.expect("paused");
    let made = admin.create(run()).await;
    is_held(
        &mut admin,
        &agent,
        &made,
        "PROJECT_PAUSED",
        "an incident (by admin)",
    )
    .await;
    let resume = ResumeProjectRequest {
        name: "projects/default".to_owned(),
        ..ResumeProjectRequest::default()
    };
    admin
        .projects
        .resume_project(resume)
        .await
        .expect("resumed");
    assert_eq!(agent.work().await.execution, made.uid);
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_out_and_says_so() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let mut member = fixture.member_of_new_project("other").await;
    let pause = PauseQueueRequest {
        message: "the registry moves".to_owned(),
        ..PauseQueueRequest::default()
    };
    let refused = member.queue.pause_queue(pause.clone()).await;
    let code = refused.expect_err("only for administrators").code();
    assert_eq!(code, Code::PermissionDenied);
    admin.queue.pause_queue(pause).await.expect("paused");
    let made = admin.create(run()).await;
    is_held(
        &mut admin,
        &agent,
        &made,
        "QUEUE_PAUSED",
        "the registry moves (by admin)",
    )
    .await;
    let told = member.queue.get_queue(GetQueueRequest {}).await;
    let told = told.expect("told").into_inner().queue.expect("it");
    assert!(told.paused, "{told:?}");
    let resume = ResumeQueueRequest::default();
    let resumed = admin.queue.resume_queue(resume).await.expect("resumed");
    let resumed = resumed.into_inner().queue.expect("it");
    assert!(!resumed.paused, "{resumed:?}");
    assert_eq!(agent.work().await.execution, made.uid);
}

#[tokio::test]
async fn quotas_are_set_by_administrators_refused_with_their_cure_and_explained() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let set = |max_running, max_queued, paths: &[&str]| UpdateProjectRequest {
        project: Some(Project {
            name: "projects/default".to_owned(),
            max_running,
            max_queued,
            ..Project::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        }),
        request_id: String::new(),
    };
    let both = ["max_running", "max_queued"];
    let limits = set(Some(1), Some(1), &both);
    let updated = admin.projects.update_project(limits.clone()).await;
    let project = updated.expect("set").into_inner().project.expect("it");
    assert_eq!((project.max_running, project.weight), (Some(1), 1));
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let first = admin.create(run()).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    let second = admin.create(run()).await;
    let credit = Credit {
        slots: 3,
        exempt: 0,
    };
    agent.say(Message::Credit(credit)).await;
    let full = admin.executions.create_execution(run()).await;
    let full = full.expect_err("the queue is full");
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert!(full.message().contains("max_queued"), "{full}");
    let explained = explain(&mut admin, &second.name).await;
    assert_eq!(reasons(&explained), ["QUOTA"]);
    agent.complete(&work, b"").await;
    assert_eq!(agent.work().await.execution, second.uid);
    assert_eq!(admin.finished(&first.name).await.state(), State::Passed);
    let mut member = fixture.member_of_new_project("other").await;
    let refused = member.projects.update_project(limits).await;
    assert!(refused.is_err(), "a member sets no quotas");
    let wrong = admin
        .projects
        .update_project(set(Some(-1), None, &both))
        .await;
    let wrong = wrong.expect_err("below 0");
    assert!(wrong.message().contains("project.max_running"), "{wrong}");
    let wrong = admin
        .projects
        .update_project(set(None, None, &["nmae"]))
        .await;
    let wrong = wrong.expect_err("no such field");
    assert!(wrong.message().contains("allowed: weight"), "{wrong}");
}

#[tokio::test]
async fn a_cordoned_agent_gets_nothing_and_a_drained_one_gives_back() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let kept = admin.create(run()).await;
    let begun = agent.work().await;
    agent.report(&begun, Phase::Running).await;
    let policy = "  execution: {recovery: {interrupted: rerun}}\n";
    let moved = admin.create(run_text(&format!("{WORKFLOW}{policy}"))).await;
    let movable = agent.work().await;
    agent.report(&movable, Phase::Running).await;
    let cordon = CordonAgentRequest {
        name: "agents/east".to_owned(),
        message: "upgrade".to_owned(),
        ..CordonAgentRequest::default()
    };
    admin.agents.cordon_agent(cordon).await.expect("cordoned");
    let waits = admin.create(run()).await;
    let credit = Credit {
        slots: 2,
        exempt: 0,
    };
    agent.say(Message::Credit(credit)).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let explained = explain(&mut admin, &waits.name).await;
    assert_eq!(verdict(&explained, "east"), Some("CORDONED"));
    let drain = DrainAgentRequest {
        name: "agents/east".to_owned(),
        ..DrainAgentRequest::default()
    };
    let drained = admin.agents.drain_agent(drain).await;
    let drained = drained.expect("drained").into_inner();
    assert_eq!((drained.taken, drained.left), (1, 1));
    let link_response::Message::Refusal(refusal) = agent.hear().await else {
        panic!("it is not told to kill what was taken");
    };
    assert_eq!(refusal.reason(), Reason::LeaseLost);
    assert_eq!(refusal.attempt, movable.attempt);
    let again = admin.get(&moved.name).await;
    assert_eq!(
        (again.state(), again.reason.as_str()),
        (State::Queued, "DRAINED")
    );
    assert_eq!(admin.get(&kept.name).await.state(), State::Running);
    let uncordon = UncordonAgentRequest {
        name: "agents/east".to_owned(),
        ..UncordonAgentRequest::default()
    };
    admin.agents.uncordon_agent(uncordon).await.expect("open");
    agent.work().await;
    agent.complete(&begun, b"").await;
    assert_eq!(admin.finished(&kept.name).await.state(), State::Passed);
}

#[tokio::test]
async fn a_new_execution_of_a_group_ends_the_older_one_and_takes_its_turn() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let group = "  concurrency: {group: 'deploy-{{ config.greeting }}', cancelInProgress: true}\n";
    let text = format!("{WORKFLOW}{group}");
    let older = admin.create(run_text(&text)).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    let newer = admin.create(run_text(&text)).await;
    let canceled = admin.get(&older.name).await;
    assert!(canceled.cancel_requested);
    assert!(
        canceled.message.contains(&newer.display_name),
        "{}",
        canceled.message
    );
    let explained = explain(&mut admin, &newer.name).await;
    assert_eq!(reasons(&explained)[0], "CONCURRENCY");
    agent.report(&work, Phase::Lost).await;
    assert_eq!(admin.finished(&older.name).await.state(), State::Canceled);
    assert_eq!(agent.work().await.execution, newer.uid);
}

#[tokio::test]
async fn a_run_that_takes_too_long_is_told_to_end_and_has_timed_out() {
    let clock = Clock::manual(Timestamp::now());
    let fixture = Fixture::start_at(clock.clone(), |_| {}).await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    let (mut agent, _) = Agent::connect(&fixture, &token, Vec::new()).await;
    let limit = "  timeouts: {run: 1s}\n";
    let made = admin.create(run_text(&format!("{WORKFLOW}{limit}"))).await;
    let work = agent.work().await;
    agent.report(&work, Phase::Running).await;
    clock.advance(Duration::from_millis(1001));
    let cancel = loop {
        if let link_response::Message::Cancel(cancel) = agent.hear().await {
            break cancel;
        }
    };
    assert!(!cancel.force);
    assert_eq!(cancel.outcome(), State::TimedOut);
    assert!(cancel.message.contains("longer than 1 s"), "{cancel:?}");
    agent.report(&work, Phase::Lost).await;
    assert_eq!(admin.finished(&made.name).await.state(), State::TimedOut);
    // Who cancels what is over changes nothing.
    let late = CancelExecutionRequest {
        name: made.name.clone(),
        ..CancelExecutionRequest::default()
    };
    admin
        .executions
        .cancel_execution(late)
        .await
        .expect("no error");
    assert_eq!(admin.get(&made.name).await.state(), State::TimedOut);
}
