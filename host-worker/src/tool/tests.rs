//! Tests of running programs, with the programs that every system has.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use super::*;

fn script(folder: &Path, name: &str, text: &str) {
    let file = folder.join(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o700)).unwrap();
}

async fn ok(tool: Tool) -> ToolOutput {
    tool.run(&CancellationToken::new()).await.unwrap()
}

/// Whether a process lives (and is no zombie) that has this word among its arguments.
fn lives(word: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read(entry.path().join("cmdline"))
            .is_ok_and(|line| line.split(|byte| *byte == 0).any(|argument| argument == word.as_bytes()))
    })
}

/// Whether setpriv has become the program: until then its command line has the word as well, but nothing binds it to us.
fn has_taken_over(program: &str, word: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        std::fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|line| {
            let words: Vec<&str> = line.split_terminator('\0').collect();
            words.first().is_some_and(|first| first.rsplit('/').next() == Some(program)) && words.contains(&word)
        })
    })
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within 20 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn arguments_arrive_as_they_are_and_never_see_a_shell() {
    let out = ok(Tool::new("printf").arg("%s|").args(["a b", "$HOME", "; reboot", "*"])).await;
    assert_eq!(out.stdout, "a b|$HOME|; reboot|*|");
    assert!(!out.cut);
}

#[tokio::test]
async fn the_environment_is_clean_and_stdin_is_empty() {
    let out = ok(Tool::new("env").env("LIBGUESTFS_BACKEND", "direct")).await;
    let mut names: Vec<&str> = out.stdout.lines().filter_map(|line| line.split('=').next()).collect();
    names.retain(|name| *name != "TMPDIR");
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LC_ALL", "LIBGUESTFS_BACKEND", "PATH"]);
    assert_eq!(ok(Tool::new("cat")).await.stdout, "");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let error = Tool::new("no-such-tool").run(&CancellationToken::new()).await.unwrap_err();
    assert_eq!(error.to_string(), "the program no-such-tool is not installed");
    assert!(!Tool::present("no-such-tool") && Tool::present("cat"));
    assert!(!ToolPaths::only(["/nonexistent"]).present("cat"));
}

#[tokio::test]
async fn a_failure_tells_status_and_last_words_but_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    script(folder.path(), "grumble", "#!/bin/sh\nfor i in 1 2 3 4 5 6 7 8 9 10; do echo line $i >&2; done\nexit 3\n");
    let tool = Tool::new("grumble").paths(&ToolPaths::with_first([folder.path()])).arg("--key").secret_arg("hunter2");
    let error = tool.run(&CancellationToken::new()).await.unwrap_err();
    let ToolError::Failed { arguments, status, stderr, .. } = &error else { panic!("{error:?}") };
    assert_eq!((arguments.as_str(), status.code()), ("--key ***", Some(3)));
    assert!(stderr.starts_with("line 3\n") && stderr.ends_with("line 10"), "{stderr}");
    assert!(!format!("{error:?} {error} {tool:?}").contains("hunter2"));
}

#[tokio::test]
async fn only_the_end_of_long_output_is_kept() {
    let out = ok(Tool::new("seq").args(["1", "400000"])).await;
    assert!(out.cut && out.stdout.len() <= STDOUT_KEPT && out.stdout.ends_with("400000\n"));
}

#[tokio::test]
async fn a_program_that_takes_too_long_is_stopped() {
    let error = Tool::new("sleep").arg("300").limit(Duration::from_millis(50)).run(&CancellationToken::new()).await;
    assert!(matches!(error, Err(ToolError::TimedOut { .. })), "{error:?}");
}

#[tokio::test]
async fn a_program_that_leaves_a_child_with_its_pipes_open_does_not_hold_us() {
    let folder = tempfile::tempdir().unwrap();
    let word = format!("41.{}", std::process::id());
    script(folder.path(), "leave", &format!("#!/bin/sh\nsleep {word} &\necho done\n"));
    let out = ok(Tool::new("leave").paths(&ToolPaths::with_first([folder.path()]))).await;
    assert_eq!(out.stdout, "done\n");
    assert!(out.took < Duration::from_secs(20));
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if std::fs::read_to_string(entry.path().join("cmdline")).is_ok_and(|line| line.contains(&word)) {
            let id = entry.file_name().to_string_lossy().parse().ok().and_then(rustix::process::Pid::from_raw);
            rustix::process::kill_process(id.unwrap(), rustix::process::Signal::KILL).unwrap();
        }
    }
}

#[tokio::test]
async fn cancel_ends_the_whole_tree_even_one_that_ignores_the_polite_signal() {
    let folder = tempfile::tempdir().unwrap();
    let word = format!("302.{}", std::process::id());
    script(folder.path(), "tree", &format!("#!/bin/sh\ntrap '' TERM\nsleep {word} &\nwhile :; do wait; done\n"));
    let tool = Tool::new("tree").paths(&ToolPaths::with_first([folder.path()]));
    let cancel = CancellationToken::new();
    let (error, ()) = tokio::join!(tool.run(&cancel), async {
        wait_until("the child starts", || lives(&word)).await;
        cancel.cancel();
    });
    assert!(matches!(error, Err(ToolError::Cancelled { .. })), "{error:?}");
    wait_until("the child ends", || !lives(&word)).await;
}

#[tokio::test]
async fn dropping_the_future_ends_the_whole_tree() {
    let folder = tempfile::tempdir().unwrap();
    let word = format!("303.{}", std::process::id());
    script(folder.path(), "tree", &format!("#!/bin/sh\nsleep {word}\nexit 0\n"));
    let tool = Tool::new("tree").paths(&ToolPaths::with_first([folder.path()]));
    let cancel = CancellationToken::new();
    tokio::select! {
        ended = tool.run(&cancel) => panic!("{ended:?}"),
        () = wait_until("the child starts", || lives(&word)) => {}
    }
    wait_until("the child ends", || !lives(&word)).await;
}

#[tokio::test]
async fn a_session_answers_line_by_line_and_tells_how_it_ended() {
    let cancel = CancellationToken::new();
    let mut session = Tool::new("cat").open().await.unwrap();
    for text in ["one", "two"] {
        session.send(&format!("{text}\n")).await.unwrap();
        assert_eq!(session.line().await.unwrap().as_deref(), Some(text));
    }
    session.end(DEFAULT_LIMIT, &cancel).await.unwrap();

    let mut session = Tool::new("cat").arg("/nonexistent").open().await.unwrap();
    assert_eq!(session.line().await.unwrap(), None);
    let error = session.end(DEFAULT_LIMIT, &cancel).await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent"), "{error}");
}

/// The part of a host worker in the next test; does nothing unless that test started it.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn as_a_host_worker_that_will_be_killed() {
    let Ok(word) = std::env::var("MAGLICA_TEST_SLEEP") else { return };
    let running = tokio::spawn(async move { Tool::new("sleep").arg(word).run(&CancellationToken::new()).await });
    drop(running.await);
}

#[tokio::test]
async fn a_program_dies_with_a_host_worker_that_is_killed() {
    let word = format!("304.{}", std::process::id());
    let mut worker = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tool::tests::as_a_host_worker_that_will_be_killed"])
        .env("MAGLICA_TEST_SLEEP", &word)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the program starts", || has_taken_over("sleep", &word)).await;
    worker.kill().unwrap();
    worker.wait().unwrap();
    wait_until("the program dies", || !lives(&word)).await;
}

#[test]
fn a_program_outlives_the_thread_that_asked_for_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let word = format!("305.{}", std::process::id());
    let (handle, argument) = (runtime.handle().clone(), word.clone());
    let asking = std::thread::spawn(move || handle.block_on(Tool::new("sleep").arg(argument).open()));
    let session = asking.join().unwrap().unwrap();
    runtime.block_on(async {
        wait_until("it starts", || has_taken_over("sleep", &word)).await;
        // The thread that asked is gone, and setpriv has become the program: a signal would have come by now.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(lives(&word));
        session.stop().await;
        wait_until("it ends", || !lives(&word)).await;
    });
}
