//! What can happen in a simulated world. Numbers choose among what is there, modulo its count, so
//! an operation keeps a meaning when others before it are left out.

/// One operation or fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    /// A caller wants an execution. The same request again is a repeat.
    Submit {
        /// Number of the request; without a request id when absent.
        request: Option<u8>,
        /// What is lost of the call.
        loss: Loss,
    },
    /// A caller wants an execution to end.
    Cancel {
        /// Which execution.
        execution: u8,
        /// Without `after` steps.
        force: bool,
        /// What is lost of the call.
        loss: Loss,
    },
    /// A caller wants an execution to stop for a while.
    Pause(u8),
    /// A caller wants an execution to go on.
    Resume(u8),
    /// An agent opens a stream in the place of the one it has.
    Connect {
        /// Which process.
        agent: u8,
        /// The server does not see that the old stream is broken.
        half_open: bool,
    },
    /// What was sent on half-open streams of an agent arrives.
    Late(u8),
    /// The stream of an agent breaks; what it has not heard is lost.
    Break(u8),
    /// An agent hears and says all there is.
    Exchange(u8),
    /// The network of an agent.
    Network {
        /// Which process.
        agent: u8,
        /// What it says arrives at once; else it waits.
        up: bool,
        /// It hears what is said; else that waits.
        down: bool,
    },
    /// The process of an agent is killed and started anew.
    Restart {
        /// Which process.
        agent: u8,
        /// Its pods are gone too.
        forgets: bool,
    },
    /// A second process with the identity of an agent starts.
    Twin(u8),
    /// A pod goes on to its next phase, and ends as told at last.
    Walk {
        /// Which process.
        agent: u8,
        /// Which of its attempts.
        pod: u8,
        /// How it ends if it ends now.
        end: End,
    },
    /// A pod is gone.
    Vanish {
        /// Which process.
        agent: u8,
        /// Which of its attempts.
        pod: u8,
    },
    /// A pod prints.
    Print {
        /// Which process.
        agent: u8,
        /// Which of its attempts.
        pod: u8,
        /// How many bytes.
        bytes: u16,
    },
    /// An agent sends what it has of a log.
    Relay {
        /// Which process.
        agent: u8,
        /// Which of its attempts.
        pod: u8,
        /// What goes wrong.
        fault: LogFault,
    },
    /// An agent sends what it has of a log on a stream that stays open, the one that it has or a
    /// new one.
    Stream {
        /// Which process.
        agent: u8,
        /// Which of its attempts.
        pod: u8,
        /// A new one though the old one is open.
        anew: bool,
    },
    /// The next operations follow each other at once: nobody waits until the server has come to
    /// rest.
    Hurry(u8),
    /// An agent says its last report again.
    Repeat {
        /// Which process.
        agent: u8,
        /// Which of its attempts.
        pod: u8,
    },
    /// An agent says something under a lease that is not the live one.
    Stale {
        /// Which process.
        agent: u8,
        /// Which attempt of all that ever were.
        attempt: u8,
        /// What it says.
        word: Word,
    },
    /// An agent gives the next attempts back that it gets.
    Decline {
        /// Which process.
        agent: u8,
        /// How many.
        attempts: u8,
    },
    /// Seconds pass for everybody, one by one.
    Time(u8),
    /// The clock jumps, as if the server or its machine had slept.
    Jump(u8),
    /// The clock of an agent is wrong by some minutes.
    Skew {
        /// Which process.
        agent: u8,
        /// By how many minutes.
        minutes: i8,
    },
    /// The next operations are about this server: it crashes, stops, starts, and takes calls, new
    /// streams and logs while it runs; else another one takes them.
    Server(u8),
    /// The server dies now.
    Crash,
    /// The server dies soon.
    CrashAfter {
        /// After this many transactions, from 1.
        transactions: u8,
        /// And this many of its turns.
        polls: u8,
    },
    /// The server stops in order.
    Stop,
    /// The server starts.
    Start,
    /// At the end, agents are given as much as they can take.
    Fill,
}

/// What is lost of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nothing.
    Nothing,
    /// The answer.
    Answer,
    /// The caller hangs up after this many transactions.
    HangUp(u8),
}

/// How a pod ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a completion record that says passed.
    Passed,
    /// With a completion record that says failed.
    Failed,
    /// The same, under a deadline of its own.
    TimedOut,
    /// It passed, but the digest of its log is not that of the bytes that it sent.
    WrongDigest,
    /// It passed, and the last bytes of its log never leave it.
    ShortLog,
}

/// What goes wrong with a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFault {
    /// Nothing.
    Nothing,
    /// It begins below what is durable.
    Repeat,
    /// It begins above what is durable.
    Gap,
    /// The stream breaks before its answers are heard.
    Cut,
}

/// What an agent says under a lease that is not the live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// That it runs, under the epoch before.
    Running,
    /// That it passed, under the epoch before.
    Passed,
    /// That it passed, under an epoch that never was.
    Future,
    /// That it is lost, under the epoch before.
    Lost,
    /// That it gives it back, under the epoch before.
    Decline,
    /// That its lease is to be renewed, under the epoch before.
    Renew,
    /// Log bytes, under the epoch before.
    Log,
    /// The lease of another agent, as it is.
    Foreign,
}
