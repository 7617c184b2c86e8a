//! Whether this execution is a service that is ready. In a cluster the kubelet asks its readiness
//! probe; on a machine nobody else does, so it is done here.

use std::{rc::Rc, time::Duration};

use muster_proto::runner::v1::{Run as Order, shim_message::Message as Told, shim_request};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    conductor::{
        Run,
        pod::{Gone, Shim},
    },
    credit,
    shim::ADDRESS,
};

/// Most bytes of what a quiet program says.
const SAID: usize = 512;
/// Longest head of an HTTP answer that is read.
const HEAD: usize = 64;

/// How long a service without a probe must have lived to count as ready: one that can not work
/// mostly says so at once. In a cluster too, where such a container is ready for the kubelet as soon
/// as the shim runs.
const STEADY: Duration = Duration::from_secs(1);
/// How often a service without a probe may fail before it was ready, when it is started again.
const MAX_STARTS: u32 = 5;

/// Watches the service's process begin: called when a process has started. Returns when the service
/// counts as ready, if it lives until then.
pub(in crate::conductor) fn watch_service(run: &Rc<Run>, container: &str) -> Option<Instant> {
    let service = run.plan.service.as_ref()?;
    let own = run.plan.containers.get(run.plan.service_container()?)?;
    if own.name != container {
        return None;
    }
    let Some(probe) = service.readiness_probe.clone() else {
        return Some(Instant::now() + STEADY);
    };
    if run.options.sandbox.is_none() || run.board.is_probed() {
        return None;
    }
    let run = Rc::clone(run);
    // Ends with the run: the tasks of this thread do.
    drop(tokio::task::spawn_local(async move {
        let seconds =
            |name: &str, default: u64| Duration::from_secs(probe[name].as_u64().unwrap_or(default));
        sleep(seconds("initialDelaySeconds", 0)).await;
        let wanted = probe["successThreshold"].as_u64().unwrap_or(1).max(1);
        let mut succeeded = 0;
        loop {
            let patience = seconds("timeoutSeconds", 1).max(Duration::from_secs(1));
            let good = timeout(patience, ask(&run, &probe)).await.unwrap_or(false);
            succeeded = if good { succeeded + 1 } else { 0 };
            if succeeded >= wanted {
                run.board.ready();
                return;
            }
            // A machine is asked more often than a cluster would: nobody else waits for it.
            sleep(seconds("periodSeconds", 1).min(Duration::from_secs(1))).await;
        }
    }));
    None
}

/// Whether this is a service that fails again and again and was never ready. What has a probe is
/// waited for as long as its owner says.
pub(in crate::conductor) fn never_starts(run: &Run, tries: u32) -> bool {
    let service = run.plan.service.as_ref();
    service.is_some_and(|service| service.readiness_probe.is_none())
        && tries >= MAX_STARTS
        && !run.board.is_ready()
}

async fn ask(run: &Run, probe: &Value) -> bool {
    if let Some(exec) = probe.get("exec") {
        let words = exec["command"].as_array();
        let words = words.into_iter().flatten().filter_map(Value::as_str);
        return execute(run, words.map(str::to_owned).collect()).await;
    }
    if let Some(http) = probe.get("httpGet") {
        return get(run, http).await;
    }
    let connect = probe.get("tcpSocket").or_else(|| probe.get("grpc"));
    match connect {
        Some(connect) => open(run, connect).await.is_some(),
        None => true,
    }
}

async fn open(run: &Run, target: &Value) -> Option<TcpStream> {
    let own = run.options.address.as_deref().unwrap_or("127.0.0.1");
    let host = target["host"].as_str().filter(|host| !host.is_empty());
    let port = &target["port"];
    let port = port
        .as_u64()
        .or_else(|| port.as_str()?.trim().parse().ok())
        .and_then(|port| u16::try_from(port).ok())?;
    TcpStream::connect((host.unwrap_or(own), port)).await.ok()
}

/// Whether an HTTP GET gives 200 to 399. Over TLS only whether somebody answers.
async fn get(run: &Run, http: &Value) -> bool {
    let Some(mut stream) = open(run, http).await else {
        return false;
    };
    if http["scheme"].as_str() == Some("HTTPS") {
        return true;
    }
    let path = http["path"].as_str().unwrap_or("/");
    let host = http["host"].as_str().unwrap_or("localhost");
    let mut request = format!("GET {path} HTTP/1.0\r\nHost: {host}\r\n");
    for header in http["httpHeaders"].as_array().into_iter().flatten() {
        let (name, value) = (header["name"].as_str(), header["value"].as_str());
        if let (Some(name), Some(value)) = (name, value) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    request.push_str("\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut head = Vec::with_capacity(HEAD);
    let mut limited = stream.take(HEAD as u64);
    if limited.read_to_end(&mut head).await.is_err() {
        return false;
    }
    let head = String::from_utf8_lossy(&head);
    let code = head.split_ascii_whitespace().nth(1);
    code.and_then(|code| code.parse::<u16>().ok())
        .is_some_and(|code| (200..400).contains(&code))
}

/// Runs a command beside the service; whether it ends well.
async fn execute(run: &Run, argv: Vec<String>) -> bool {
    let container = run.plan.service_container();
    let Some(container) = container.and_then(|index| run.plan.containers.get(index)) else {
        return false;
    };
    let Some(shim) = run.pod.connected(&format!("{}{PROBE}", container.name)) else {
        return false;
    };
    let environment = run.options.address.as_ref();
    let environment = environment.map(|address| format!("{ADDRESS}={address}"));
    run_quietly(&shim, argv, environment.into_iter().collect())
        .await
        .0
}

/// Runs a program in a container without a word in the log; whether it ends well, and the last of
/// what it said.
pub(super) async fn run_quietly(
    shim: &Shim,
    argv: Vec<String>,
    environment: Vec<String>,
) -> (bool, String) {
    let mut line = shim.line.lock().await;
    line.last_id += 1;
    let id = line.last_id;
    let order = Order {
        id,
        argv,
        environment,
        ..Order::default()
    };
    let mut said = Vec::new();
    let told = async {
        line.say(shim_request::Message::Run(order)).await?;
        loop {
            match line.hear().await? {
                Told::Started(started) if started.id == id && !started.error.is_empty() => {
                    return Ok(false);
                }
                Told::Exited(exited) if exited.id == id => return Ok(exited.code == Some(0)),
                Told::Output(output) => {
                    said = output.data.to_vec();
                    said.truncate(SAID);
                    line.grant(credit::cost(output.data.len())).await?;
                }
                other => line.pass_over(other).await?,
            }
        }
    };
    let told: Result<bool, Gone> = told.await;
    (
        told.unwrap_or(false),
        String::from_utf8_lossy(&said).trim().to_owned(),
    )
}

/// What is added to the name of the service's container for the one that its probe runs in.
pub(in crate::conductor) const PROBE: &str = "-probe";
