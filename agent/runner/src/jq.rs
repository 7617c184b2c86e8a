//! `jq` of the language. A filter may run for ever, take all memory or overflow a stack, so it
//! runs in a process of its own: the hidden mode `jq` of this program, with limits that the kernel
//! keeps.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc,
    time::Duration,
};

use jaq_core::{
    Compiler, Ctx, Exn, Vars, data,
    load::{Arena, File, Loader},
};
use jaq_json::{Val, read, write};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde_json::Value;

use crate::arguments::Itself;

/// Name of the mode.
pub(crate) const MODE: &str = "jq";

/// How long a filter may run.
const PATIENCE: Duration = Duration::from_secs(5);
/// Most memory of the process, in bytes, apart from its stack: it shares the 128 MiB that the
/// conductor's container has in a cluster.
const MEMORY: u64 = 48 << 20;
/// Most stack, in bytes.
const STACK: u64 = 8 << 20;
/// Largest list of results as JSON, in bytes: what a text of an expression may have.
const LARGEST: usize = 1 << 20;
/// Longest message about what is wrong, in bytes.
const MESSAGE: u64 = 500;
/// Exit code for a filter or value that is refused; says why on standard error.
const REFUSED: u8 = 3;

/// Why a filter has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is wrong, or does not suit the value.
    #[error("{0}")]
    Refused(String),
    /// It did not end in time.
    #[error("the filter did not end within {} seconds", PATIENCE.as_secs())]
    Time,
    /// It was ended because of its memory or stack.
    #[error("the filter needs more than {} MiB of memory, or nests too deep", MEMORY >> 20)]
    Memory,
    /// Its results are too large.
    #[error("the results have more than {LARGEST} bytes")]
    Size,
    /// Its process can not be started or spoken to.
    #[error("the process for the filter failed: {0}")]
    Process(#[source] io::Error),
}

/// All results of a filter for a value, as a list. Blocks for at most five seconds and a little.
///
/// `words` lead to this program's modes on the command line of the program that embeds it:
/// `["runner"]`, or none.
///
/// # Errors
///
/// When the filter is wrong, fails, or passes a limit.
pub fn jq(words: &[&str], value: &Value, filter: &str) -> Result<Value, Error> {
    let mut command = Command::new("/proc/self/exe");
    command.args(words).arg(MODE);
    run(command, value, filter)
}

/// The same from within this program.
pub(crate) fn jq_of(itself: &Itself, value: &Value, filter: &str) -> Result<Value, Error> {
    run(itself.command(MODE), value, filter)
}

fn run(mut command: Command, value: &Value, filter: &str) -> Result<Value, Error> {
    let request = serde_json::json!([filter, value]).to_string();
    command
        .env_clear()
        // What the allocator of the program that embeds this one sets aside counts when it is used, and
        // not before: else there is no limit at all, or now and then none of it is left.
        .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(Error::Process)?;
    let (sender, results) = mpsc::channel();
    let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    std::thread::spawn(move || {
        let (Some(mut stdin), Some(stdout), Some(stderr)) = pipes else {
            return;
        };
        // A process that ends before it has read all says why.
        let _broken = stdin.write_all(request.as_bytes());
        drop(stdin);
        let mut output = Vec::new();
        let read = stdout.take(LARGEST as u64 + 1).read_to_end(&mut output);
        let mut message = Vec::new();
        let told = stderr.take(MESSAGE).read_to_end(&mut message);
        // Nobody listens any more after the time is over.
        drop(sender.send(read.and(told).map(|_| (output, message))));
    });
    let answered = results.recv_timeout(PATIENCE);
    let status = end(&mut child, answered.is_err()).map_err(Error::Process)?;
    let (output, message) = match answered {
        Ok(answered) => answered.map_err(Error::Process)?,
        Err(_late) => return Err(Error::Time),
    };
    judge(status, &output, &message)
}

/// Waits for the process, which has closed its output or must go.
fn end(child: &mut Child, late: bool) -> io::Result<ExitStatus> {
    if late {
        child.kill()?;
    }
    child.wait()
}

fn judge(status: ExitStatus, output: &[u8], message: &[u8]) -> Result<Value, Error> {
    const CPU: i32 = 24;
    let message = String::from_utf8_lossy(message).trim().to_owned();
    match (status.code(), status.signal()) {
        (Some(0), _) if output.len() > LARGEST => Err(Error::Size),
        (Some(0), _) => serde_json::from_slice(output)
            .map_err(|error| Error::Refused(format!("the results are not JSON: {error}"))),
        (Some(code), _) if code == i32::from(REFUSED) => Err(Error::Refused(message)),
        (_, Some(CPU)) => Err(Error::Time),
        (None, _) => Err(Error::Memory),
        (Some(_), _) => Err(Error::Process(io::Error::other(message))),
    }
}

/// Mode `jq`: a list of filter and value on standard input, the list of results on standard output.
pub(crate) fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            // Without a word the exit code says it.
            let _unheard = io::stderr().write_all(why.as_bytes());
            ExitCode::from(REFUSED)
        }
    }
}

fn serve() -> Result<(), String> {
    let seconds = PATIENCE.as_secs();
    for (resource, most) in [
        (Resource::Data, MEMORY),
        (Resource::Stack, STACK),
        (Resource::Cpu, seconds),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
    ] {
        // Beyond the first number of CPU there is a signal of its own, beyond the second SIGKILL.
        let spare = u64::from(resource == Resource::Cpu);
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most + spare),
        };
        setrlimit(resource, limit).map_err(|error| format!("no limit can be set: {error}"))?;
    }
    // Where memory is short all the same, this process goes first; not all may ask for that.
    let _refused = std::fs::write("/proc/self/oom_score_adj", "1000");
    let mut request = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut request);
    read.map_err(|error| format!("no request: {error}"))?;
    let (filter, value): (String, Value) =
        serde_json::from_slice(&request).map_err(|error| format!("no request: {error}"))?;
    drop(request);
    let results = apply(&filter, &value)?;
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(&results).and_then(|()| stdout.flush());
    written.map_err(|error| format!("no answer: {error}"))
}

/// The results as a JSON list. Only for a process of its own.
fn apply(filter: &str, value: &Value) -> Result<Vec<u8>, String> {
    let input = read::parse_single(value.to_string().as_bytes())
        .map_err(|error| format!("the value can not be read: {error}"))?;
    let definitions = jaq_core::defs()
        .chain(jaq_std::defs())
        .chain(jaq_json::defs());
    let functions = jaq_core::funs()
        .chain(jaq_std::funs())
        .chain(jaq_json::funs());
    let arena = Arena::default();
    // Variables of this process are nobody's business.
    let code = format!("def env: {{}}; {filter}");
    let file = File {
        code: &*code,
        path: (),
    };
    let modules = Loader::new(definitions)
        .load(&arena, file)
        .map_err(|_errors| format!("`{}` is no filter of jq", shorten(filter)))?;
    let compiled = Compiler::default()
        .with_funs(functions)
        .compile(modules)
        .map_err(|errors| {
            let errors = errors.into_iter().flat_map(|(_, errors)| errors);
            let unknown: Vec<String> = errors.map(|(name, _)| format!("`{name}`")).collect();
            let unknown = unknown.join(", ");
            format!("the filter names what is not there: {unknown}")
        })?;
    let context = Ctx::<data::JustLut<Val>>::new(&compiled.lut, Vars::new([]));
    let mut out = vec![b'['];
    for result in compiled.id.run((context, input)) {
        let result = match result.map_err(Exn::get_err) {
            Ok(result) => result,
            Err(Ok(error)) => return Err(shorten(&error.to_string())),
            // `halt` and the like: what came before counts.
            Err(Err(_end)) => break,
        };
        if out.len() > 1 {
            out.push(b',');
        }
        let written = write::write(&mut out, &write::Pp::default(), 0, &result);
        written.map_err(|error| error.to_string())?;
        if out.len() > LARGEST {
            return Err(Error::Size.to_string());
        }
    }
    out.push(b']');
    Ok(out)
}

fn shorten(text: &str) -> String {
    let mut short: String = text.chars().take(200).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn results(value: &Value, filter: &str) -> Result<Value, String> {
        apply(filter, value).map(|bytes| serde_json::from_slice(&bytes).unwrap())
    }

    #[test]
    fn all_results_of_a_filter_are_a_list() {
        let value = json!({"items": [{"n": 1, "name": "a"}, {"n": 2, "name": "b"}]});
        for (filter, expected) in [
            (".items[].n", json!([1, 2])),
            ("[.items[] | select(.n > 1).name]", json!([["b"]])),
            ("empty", json!([])),
            (".missing", json!([null])),
            (".items | map(.n) | add", json!([3])),
            (".items | to_entries | map(.key)", json!([[0, 1]])),
            (".items[0].name | @base64", json!(["YQ=="])),
            (".items[0].name | test(\"^a\")", json!([true])),
            ("3.5, 1e3, (1/3 | floor)", json!([3.5, 1000.0, 0])),
            ("1, halt, 2", json!([1])),
        ] {
            assert_eq!(results(&value, filter), Ok(expected), "{filter}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let refusal = |filter: &str| results(&json!({"a": 1}), filter).unwrap_err();
        assert!(refusal(".a |").contains("`.a |` is no filter of jq"));
        assert!(refusal("nothing(.a)").contains("`nothing`"));
        assert!(
            refusal(".a.b").contains("cannot index"),
            "{}",
            refusal(".a.b")
        );
        assert!(refusal("error(\"so\")").contains("so"));
        assert!(refusal("[range(1000000)]").contains("more than 1048576 bytes"));
        assert!(refusal("import \"/etc/passwd\" as x; .").contains("no filter"));
    }
}
