//! Agents of other versions: the newest protocol and the one before it are served side by side.

use muster_proto::v1::{
    AgentHello, attempt_report::Phase, execution::State, link_request::Message, link_response,
    refusal::Reason,
};

use super::{
    agent::Agent,
    fixture::{Fixture, run},
    postgres,
};

fn hello(oldest: u32, newest: u32) -> AgentHello {
    AgentHello {
        min_protocol: oldest,
        max_protocol: newest,
        ..Agent::hello(&uuid::Uuid::now_v7().to_string(), Vec::new())
    }
}

#[tokio::test]
async fn this_protocol_and_the_one_before_are_served_and_others_refused_with_a_reason() {
    let fixture = Fixture::start().await;
    let mut admin = fixture.admin().await;
    let token = fixture.agent("east").await;
    for (oldest, newest, spoken) in [(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 7, 2)] {
        let hello = hello(oldest, newest);
        let connected = Agent::try_to_connect(&fixture, &token, hello).await;
        let (mut agent, welcome) = connected.expect("it is served");
        assert_eq!(welcome.protocol, spoken, "{oldest} to {newest}");
        let made = admin.create(run()).await;
        let work = agent.work().await;
        agent.report(&work, Phase::Running).await;
        assert_eq!(agent.log(&work, 0, b"a log").await.expect("stored"), 5);
        agent.complete(&work, b"a log").await;
        let done = admin.finished(&made.name).await;
        assert_eq!(done.state(), State::Passed);
        assert!(done.log.expect("a log").complete);
    }
    for (oldest, newest) in [(0, 0), (3, 4)] {
        let heard = Agent::say_hello(&fixture, &token, hello(oldest, newest)).await;
        let Some(link_response::Message::Refusal(refusal)) = heard else {
            panic!("no refusal: {heard:?}");
        };
        assert_eq!(refusal.reason(), Reason::UnsupportedProtocol);
        assert!(refusal.message.contains("1 to 2"), "{}", refusal.message);
    }
    fixture.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_can_not_be_stored_ends_the_stream_of_an_older_agent_alone() {
    let Some(url) = postgres::database().await else {
        return;
    };
    let fixture = Fixture::start_with(|config| config.database = Some(url.clone())).await;
    let mut admin = fixture.admin().await;
    for version in [1, 2] {
        let token = fixture.agent(&format!("agent-{version}")).await;
        let connected = Agent::try_to_connect(&fixture, &token, hello(version, version)).await;
        let (mut agent, _) = connected.expect("it is served");
        admin.create(run()).await;
        let work = agent.work().await;
        postgres::make_read_only(&url, true).await;
        let report = agent.report_of(&work, Phase::Running);
        agent.say(Message::Report(report.clone())).await;
        if version == 1 {
            // It tells it again on its next stream, and not before.
            while agent.try_hear().await.is_some() {}
            postgres::make_read_only(&url, false).await;
            continue;
        }
        // What can not be read is refused after the report was tried.
        postgres::refuses_writes(&url).await;
        postgres::make_read_only(&url, false).await;
        let told = async {
            loop {
                agent.say(Message::Report(report.clone())).await;
                let heard =
                    tokio::time::timeout(std::time::Duration::from_secs(1), agent.try_hear());
                match heard.await {
                    Ok(Some(link_response::Message::ReportAck(ack))) => return ack.sequence,
                    Ok(Some(_)) | Err(_) => {}
                    Ok(None) => panic!("its stream has ended"),
                }
            }
        };
        let told = tokio::time::timeout(std::time::Duration::from_secs(60), told).await;
        assert_eq!(
            told.expect("it is stored when that is possible"),
            report.sequence
        );
    }
    fixture.server.stop().await;
    postgres::drop_database(&url).await;
}
