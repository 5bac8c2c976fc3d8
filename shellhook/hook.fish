# LocalPort's hook for fish, 3.6 and newer: localport hook fish | source
#
# A prompt where nothing changed starts no process: it reads one line and compares the ages of files, with builtins
# only. Neither does a cd that crosses no project boundary.
#
# The line above sets __localport_exe. `localport export` sets the first four variables below and __localport_retry; none is exported.
# read, test, set, string and status are reserved names, which no function can take; source and math are not.

if not test "$__localport_shell" = $fish_pid
    set -gu __localport_root '' # the project that this shell is in
    set -gu __localport_dir '' # where LocalPort keeps what prompts compare with
    set -gu __localport_line '' # the line in $__localport_dir/prompt, at the last export
    set -gu __localport_told '' # hash of the error that this shell last printed
    set -gu __localport_pwd '' # the directory of the last prompt; '' before the first
    set -gu __localport_why '' # why this prompt must run an export; '' if it need not
    set -gu __localport_tried '' # the last reason for an export, and how many exports did not resolve it
    set -gu __localport_tries 0
    set -gu __localport_alive '' # the line whose process was last found alive
    set -gu __localport_wait ''
    set -gu __localport_shell $fish_pid
end
if test -z "$__localport_wait" # also if an older hook set the others
    set -gu __localport_retry '' # what `localport export` has to retry; it is passed back
    set -gu __localport_code 0 # exit status of the last export
    set -gu __localport_wait 0 # seconds until it is repeated; 0: it is not repeated
    set -gu __localport_since 0 # when it ran, as the age of our program
end

function __localport_prompt --on-event fish_prompt
    set __localport_why ''
    if test "$PWD" != "$__localport_pwd"
        __localport_find_root
    else if test -e ./.localport.toml -a ! . -ef "$__localport_root"
        set __localport_why "enter $PWD"
        test . -ef "$PWD"; or set __localport_why "enter moved $PWD" # so that the reason differs when the directory is back
    end
    if test -z "$__localport_why" -a -n "$__localport_root"
        __localport_compare
    end
    if test -z "$__localport_why" -a "$__localport_wait" != 0
        if test "$__localport_code" = 0
            set __localport_wait 0 # it resolved the reason
        else if __localport_is_due
            set __localport_why again
        end
    end
    if test -n "$__localport_why"
        __localport_export
    else if test -n "$__localport_tried"
        set __localport_tried ''
    end
end

# The event is emitted in scripts too.
function __localport_cd --on-variable PWD
    status is-interactive; and __localport_prompt
end

# __localport_find_root walks up from a new directory. ./.. is physical, like the project's root.
function __localport_find_root
    set -l at .
    set -l last $__localport_pwd
    set __localport_pwd "$PWD"
    while test -e $at
        if test -e $at/.localport.toml
            test $at -ef "$__localport_root"; or set __localport_why "enter $PWD"
            return
        end
        test $at -ef /; and break
        set at $at/..
    end
    if test -n "$__localport_root"
        set __localport_why "leave $PWD"
    else if test -z "$last" -a -n "$LOCALPORT_DIFF"
        set __localport_why inherited
    end
end

# __localport_compare compares the project with its state at the last export. No command substitution here: each costs
# as much as all the rest. Files are tested first: fish reports one that it cannot open where nothing can silence it.
function __localport_compare
    set -l root $__localport_root
    set -l dir $__localport_dir
    set -l now
    set -l pid
    set -l start
    test -n "$dir" -a -f $dir/prompt; and read -d ' ' now pid start <$dir/prompt
    if test -n "$now"; and test "$now $pid $start" != "$__localport_line"; or test -z "$now" -a -n "$__localport_line"
        set __localport_why "line $now $PWD"
    else if test -z "$dir"
        test -e $root/.localport.toml; or set __localport_why "file $PWD"
    else if test $root/.localport.toml -nt $dir/stamp.config -o $root/.localport.toml -ot $dir/stamp.config \
            -o $root/.localport.local.toml -nt $dir/stamp.local -o $root/.localport.local.toml -ot $dir/stamp.local \
            -o $root/.env -nt $dir/stamp.env -o $root/.env -ot $dir/stamp.env
        # In fish a missing file is older than any other: this also tells what appeared and what vanished.
        set __localport_why "file $PWD"
    else if test "$__localport_line" = "$__localport_alive" -a ! "/proc/$pid" -nt $dir/prompt -a -e "/proc/$pid/exe"
        # The process of this line was alive before, and no other has had its pid since: /proc/PID is as old
        # as its first use. A zombie has no exe.
    else if test -z "$pid" -o "$pid" = 0 -o ! -e /proc/$fish_pid/stat
        # None should run, or it cannot be told: fish has no builtin kill.
    else if __localport_is_alive $pid $start
        set __localport_alive "$__localport_line"
    else
        set __localport_why "gone $__localport_line $PWD"
    end
end

# __localport_is_alive PID START tells whether that process runs. Field 22 of /proc/PID/stat is the start time,
# field 3 the state, field 2 a name in parentheses that may hold anything.
function __localport_is_alive
    set -l stat
    test -e /proc/$argv[1]/stat; and read -z stat </proc/$argv[1]/stat
    and string match -qr '(?s)^.*\) [^ZX](?: \S+){18} '$argv[2]' ' -- $stat
end

# __localport_is_due tells whether a failed export is to be repeated now. fish has no builtin clock; the age of a file that
# nobody writes serves as one. If the file was written, it is younger than before.
function __localport_is_due
    set -l now (builtin path mtime -R -- $__localport_exe)
    test -z "$now"; and return 1
    test $now -lt $__localport_since; or test (builtin math $now - $__localport_since) -ge $__localport_wait
end

# __localport_export runs `localport export`. If that fails once, or does not resolve the reason three times (something may
# have changed meanwhile), it is repeated after 5, 10, … 60 s with a limit of 200 ms. Status 3 and 4, a config that is
# invalid or not allowed, are final: the hook detects what changes them.
function __localport_export
    set -l limit
    if test "$__localport_why" != "$__localport_tried"
        set __localport_tried "$__localport_why"
        set __localport_tries 0
    end
    test -x "$__localport_exe"; or return
    if test "$__localport_tries" = 3
        test "$__localport_wait" != 0; and __localport_is_due; or return
        set limit --limit=200ms
    end
    test "$__localport_why" = again; and set limit --limit=200ms
    $__localport_exe export fish --pid $fish_pid --root "$__localport_root" --line "$__localport_line" --told "$__localport_told" --retry "$__localport_retry" $limit </dev/null | builtin source
    set __localport_code $pipestatus[1]
    if test $__localport_code = 0 -a "$__localport_tries" -lt 2
        set __localport_tries (builtin math $__localport_tries + 1)
        set __localport_wait 0
    else if test $__localport_code = 3 -o $__localport_code = 4
        set __localport_tries 3
        set __localport_wait 0
        # Nor is it final if the directory was moved meanwhile: when it is back, that is the same reason.
        if not string match -q 'enter moved *' -- "$__localport_why"
            test . -ef "$PWD"; and test -z "$__localport_root" -o -e "$__localport_root"; or set __localport_tried ''
        end
    else
        set __localport_tries 3
        set __localport_wait (builtin math min $__localport_wait + 5, 60)
        set __localport_since (builtin path mtime -R -- $__localport_exe)
    end
end

# test has no -ef and -nt before 3.6.
if not test . -ef . 2>/dev/null
    builtin echo 'localport: the hook needs fish 3.6 or newer' >&2
    builtin functions --erase __localport_prompt __localport_cd
end
