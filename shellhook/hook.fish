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
    set -gu __localport_expected '' # that line with a newline, if __localport_checks has what else to test
    set -gu __localport_same '' # the directory, and what else the first test of a prompt compares, if there is nothing to do
    set -gu __localport_wait ''
    set -gu __localport_editing '' # 1 while a line is edited: a message then waits in __localport_held for the next prompt
    set -gu __localport_held ''
    set -gu __localport_above # the arguments of a test: whether a directory above this one, up to the project's root, has a config
    set -gu __localport_unfinished # directories of exports that may have entered a project before they were interrupted
    set -gu __localport_variables '' # the names of the project's variables in this shell
    set -gu __localport_shell $fish_pid
end
if test -z "$__localport_undo" # also if an older hook set the others
    set -gu __localport_diff '' # a copy of LOCALPORT_DIFF
    # What __localport_set has saved: values in __localport_was_NAME, scope and flags in __localport_how_NAME, our value in __localport_our_NAME.
    # What was there before another tool has set that, or before a list was changed, is in __localport_firstwas_NAME and so on, if
    # __localport_first_NAME is set.
    set -gu __localport_names
    set -gu __localport_kept # names of which it was said that they keep their value
    set -gu __localport_undo 0 # at how many prompts after leaving what another hook puts back is undone
    set -gu __localport_uses # the names of the variables that [env] uses
    set -gu __localport_seen # their values at the last export
    set -gu __localport_recheck '' # 1 if an export at a cd found variables missing that another hook may set before the prompt
    set -gu __localport_at_cd '' # 1 while a cd is handled
end
set -q __localport_tools; or set -gu __localport_tools '' # what direnv and mise had changed at the last export
if test -z "$__localport_wait" # also if an older hook set the others
    set -gu __localport_retry '' # what `localport export` has to retry; it is passed back
    set -gu __localport_code 0 # exit status of the last export
    set -gu __localport_wait 0 # seconds until it is repeated; 0: it is not repeated
    set -gu __localport_since 0 # when it ran, as the age of a directory; '' if it did not end, and no prompt has looked since
end

function __localport_prompt
    # These conditions hold at nearly all prompts, and say that what follows would find nothing to do. There are few of them, because a command costs
    # more than what it compares.
    if test "$PWD/$__localport_undo$__localport_wait$__localport_tried$__localport_uses$__localport_recheck$DIRENV_DIFF$__MISE_DIFF" = "$__localport_same"
        if test -z "$__localport_root"
            test $__localport_here; or return 0
        else if test -n "$__localport_expected"; and not test $__localport_here -o $__localport_checks
            read -lz __localport_now <$__localport_dir/prompt
            test "$__localport_now" = "$__localport_expected"; and return 0
        end
    end
    set __localport_why ''
    if test "$PWD/$__localport_undo" != "$__localport_pwd/0" # one test, because each takes as long as all that it compares
        test "$__localport_undo" = 0; or __localport_undo_again
        __localport_find_root
    else if test -e ./.localport.toml -a ! . -ef "$__localport_root"
        set __localport_why "enter $PWD"
        test . -ef "$PWD"; or set __localport_why "enter moved $PWD" # so that the reason differs when the directory is back
    else if test -n "$__localport_above"; and test $__localport_above
        __localport_find_root # a config has appeared
    end
    if test -z "$__localport_why" -a -n "$__localport_root"
        __localport_compare
    end
    if test -z "$__localport_why" -a "$__localport_uses$__localport_recheck$__localport_wait$DIRENV_DIFF$__MISE_DIFF" != 0
        test -z "$__localport_uses"; or __localport_compare_used
        test "$DIRENV_DIFF$__MISE_DIFF" = "$__localport_tools" -o -z "$__localport_root"; or __localport_compare_ours
        if test -n "$__localport_recheck" -a -z "$__localport_at_cd" -a -z "$__localport_why"
            set __localport_why recheck
        end
        if test -z "$__localport_why" -a "$__localport_wait" != 0
            if test "$__localport_code" = 0
                set __localport_wait 0 # it resolved the reason
            else if __localport_is_due
                set __localport_why again
            end
        end
    end
    if test -n "$__localport_why"
        __localport_export
    else if test -n "$__localport_tried"
        set __localport_tried ''
    end
end

# fish calls the handlers of an event in the order of their definition, and others define theirs at each prompt. This hook is called last
# from the first prompt on, so that it sees what others have set. What has been compared is compared once more before a command runs.
function __localport_first_prompt --on-event fish_prompt
    functions --erase __localport_first_prompt
    function __localport_at_prompt --on-event fish_prompt
        set -gu __localport_editing ''
        test -z "$__localport_held"; or __localport_print_held
        __localport_prompt
        if functions -q __direnv_cd_hook; or functions -q __mise_cd_hook
            __localport_handle_cd
        end
        set __localport_editing 1
    end
    function __localport_preexec --on-event fish_preexec
        set -gu __localport_editing ''
        test "$__localport_undo" = 0; or __localport_undo_again
        test -n "$__localport_uses$DIRENV_DIFF$__MISE_DIFF$__localport_tools"; or return
        set __localport_why ''
        __localport_compare_used
        test "$DIRENV_DIFF$__MISE_DIFF" = "$__localport_tools" -o -z "$__localport_root"; or __localport_compare_ours
        test -z "$__localport_why"; or __localport_prompt
    end
    __localport_prompt
    set -gu __localport_editing 1
end

function __localport_handle_cd
    functions --erase __localport_cd
    # The event is emitted in scripts too.
    function __localport_cd --on-variable PWD
        status is-interactive; or return
        set __localport_at_cd 1
        __localport_prompt
        set __localport_at_cd ''
    end
end
__localport_handle_cd
functions -q __localport_at_prompt; and functions --erase __localport_first_prompt

# __localport_find_root walks up from a new directory. It sets what the next prompts test first: __localport_same, and in __localport_here the
# arguments of a test whether another config than the project's is nearer.
function __localport_find_root
    __localport_walk_up
    set -gu __localport_same "$__localport_pwd/00"
    set -gu __localport_here -e ./.localport.toml
    test . -ef "$__localport_root"; and set __localport_here ! . -ef $__localport_root
    test -z "$__localport_above"; or set -a __localport_here -o $__localport_above
    return 0
end

# __localport_walk_up walks up. ./.. is physical, like the project's root. It sets __localport_above.
function __localport_walk_up
    set -l at .
    set -l last $__localport_pwd
    set -l hit
    set __localport_pwd "$PWD"
    set -gu __localport_above
    while test -e $at
        if test -e $at/.localport.toml
            test $at -ef "$__localport_root"; and return
            set __localport_why "enter $PWD"
            set hit 1
        end
        if test $at != .
            test -n "$__localport_above"; and set -a __localport_above -o
            set -a __localport_above -e $at/.localport.toml
        end
        test -n "$hit"; and return
        test $at -ef /; and break
        set at $at/..
    end
    if test -n "$__localport_root$__localport_unfinished"
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
    set -q __localport_files[1]; or __localport_list_files
    test -n "$dir" -a -f $dir/prompt; and read -d ' ' now pid start <$dir/prompt
    if test -n "$now"; and test "$now $pid $start" != "$__localport_line"; or test -z "$now" -a -n "$__localport_line"
        set __localport_why "line $now $PWD"
    else if test -z "$dir"
        test -e $root/.localport.toml; or set __localport_why "file $PWD"
    else if test $__localport_files
        set __localport_why "file $PWD"
    else if test "$__localport_line" = "$__localport_alive" -a ! "/proc/$pid" -nt $dir/prompt -a -e "/proc/$pid/exe"
        # The process of this line was alive before, and no other has had its pid since: /proc/PID is as old
        # as its first use. A zombie has no exe.
    else if test -z "$pid" -o "$pid" = 0 -o ! -e /proc/$fish_pid/stat
        # None should run, or it cannot be told: fish has no builtin kill.
    else if __localport_is_alive $pid $start
        set __localport_alive "$__localport_line"
        set -gu __localport_expected "$__localport_line"\n
        set -gu __localport_checks ! -f $dir/prompt -o "/proc/$pid" -nt $dir/prompt -o ! -e "/proc/$pid/exe" -o $__localport_files
    else
        set __localport_why "gone $__localport_line $PWD"
    end
end

# __localport_list_files sets __localport_files to the arguments of a test: whether one of the project's files has changed since its stamp was
# written. Without a stamp there was no file. In fish a missing file is older than any other.
function __localport_list_files
    set -gu __localport_expected ''
    set -gu __localport_alive ''
    set -l __localport_file $__localport_root/.localport.toml
    set -l __localport_stamp $__localport_dir/stamp.config
    set -gu __localport_files $__localport_file -nt $__localport_stamp -o $__localport_file -ot $__localport_stamp
    for __localport_name in local.toml env
        set __localport_file $__localport_root/.localport.local.toml
        set __localport_stamp $__localport_dir/stamp.local
        if test $__localport_name = env
            set __localport_file $__localport_root/.env
            set __localport_stamp $__localport_dir/stamp.env
        end
        if test -e $__localport_stamp
            set -a __localport_files -o $__localport_file -nt $__localport_stamp -o $__localport_file -ot $__localport_stamp
        else
            set -a __localport_files -o -e $__localport_file
        end
    end
end

# __localport_is_alive PID START tells whether that process runs. Field 22 of /proc/PID/stat is the start time,
# field 3 the state, field 2 a name in parentheses that may hold anything.
function __localport_is_alive
    set -l stat
    test -e /proc/$argv[1]/stat; and read -z stat </proc/$argv[1]/stat
    and string match -qr '(?s)^.*\) [^ZX](?: \S+){18} '$argv[2]' ' -- $stat
end

# __localport_is_due tells whether a failed export is to be repeated now. fish has no builtin clock; the age of a directory that
# is hardly ever written serves as one. If it was written, it is younger than before.
function __localport_is_due
    test "$__localport_code" = missing; and return 0
    set -l now (builtin path mtime -R -- /)
    test -z "$now"; and return 1
    test -n "$__localport_since"; or set __localport_since $now
    test $now -lt $__localport_since; or test (builtin math $now - $__localport_since) -ge $__localport_wait
end

# __localport_export runs `localport export`. If that fails once, or does not resolve the reason three times (something may
# have changed meanwhile), it is repeated after 5, 10, … 60 s with a limit of 200 ms. Status 3 and 4, a config that is
# invalid or not allowed, are final: the hook detects what changes them.
function __localport_export
    set -l limit
    test -n "$__localport_at_cd"; and set -a limit --cd
    if test "$__localport_why" != "$__localport_tried"
        set __localport_tried "$__localport_why"
        set __localport_tries 0
    end
    if test "$__localport_tries" = 3
        test "$__localport_wait" != 0; and __localport_is_due; or return
        set -a limit --limit=200ms
    end
    if not __localport_find_program
        __localport_report_missing
        return
    end
    set -gu __localport_missing ''
    test "$__localport_why" = again -a "$__localport_code" != missing; and set -a limit --limit=200ms
    test -n "$__localport_diff"; and set -lx LOCALPORT_DIFF $__localport_diff
    # What holds if the user interrupts what follows: it is repeated as after a failure.
    set -l before $__localport_tries
    set -l found $__localport_root
    set -l held "$__localport_held"
    if test -n "$__localport_editing"
        set -a limit --hold
        set -gu __localport_held '' # also if the output does not set it
    end
    # A command substitution costs as much as ten other commands, so that there is none if nothing has failed.
    set __localport_tries 3
    set __localport_code 130
    if test "$__localport_wait" = 0
        set __localport_wait 5
    else
        set __localport_wait (builtin math min $__localport_wait + 5, 60)
    end
    set __localport_since ''
    test -n "$__localport_unfinished"; or set -gu __localport_unfinished
    set -l earlier
    for dir in $__localport_unfinished
        set earlier "$earlier$dir"\n
    end
    test -n "$earlier"; and set -a limit "--unfinished=$earlier"
    builtin contains -- "$PWD" $__localport_unfinished; or set -ga __localport_unfinished "$PWD"
    $__localport_program export fish --pid $fish_pid --root "$__localport_root" --line "$__localport_line" --told "$__localport_told" --retry "$__localport_retry" --saves --tools $limit </dev/null | builtin source
    set __localport_code $pipestatus[1]
    builtin contains -- $__localport_code 0 3 4; and set -gu __localport_unfinished # also if an older localport does not set it
    test -n "$__localport_editing"; and set -gu __localport_held "$held$__localport_held"
    test "$found" = "$__localport_root"; or __localport_find_root
    if test $__localport_code = 0 -a "$before" -lt 2
        set __localport_tries 2
        test "$before" = 1; or set __localport_tries 1
        set __localport_wait 0
    else if test $__localport_code = 3 -o $__localport_code = 4
        set __localport_wait 0
        # Status 3 and 4 are not final if the directory was moved meanwhile: when it is moved back, the reason is the same, and must count again.
        if not string match -q 'enter moved *' -- "$__localport_why"
            test . -ef "$PWD"; and test -z "$__localport_root" -o -e "$__localport_root"; or set __localport_tried ''
        end
    else
        set __localport_since (builtin path mtime -R -- /)
    end
    # Another edit is the same reason as this one, if this one has been seen.
    if string match -q 'file *' -- "$__localport_why"; and builtin contains -- $__localport_code 0 3 4; and test -n "$__localport_dir"
        __localport_list_files
        test $__localport_files; or set __localport_tried ''
    end
end

# __localport_find_program sets __localport_program to localport: at the path that the hook was installed with or, if an upgrade has
# removed that, the first one in PATH.
function __localport_find_program
    set -gu __localport_program $__localport_exe
    test -f "$__localport_exe" -a -x "$__localport_exe"; and string match -q '/*' -- $__localport_exe; and return 0
    for at in $PATH/localport
        set -gu __localport_program $at
        string match -q '/*' -- $at; and test -f $at -a -x $at; and return 0
    end
    return 1
end

# __localport_say prints a message. While a line is edited, as in a key binding that calls cd, the next prompt prints it.
function __localport_say
    if test -n "$__localport_editing"
        set -gu __localport_held "$__localport_held$argv[1]"\n
    else
        builtin echo $argv[1] >&2
    end
end

function __localport_print_held
    builtin printf '%s' "$__localport_held" >&2
    set -gu __localport_held ''
end

# __localport_report_missing says once that there is no program. The next prompts look for it, without a process.
function __localport_report_missing
    set __localport_code missing
    set __localport_wait 1
    set __localport_tries 0
    test -z "$__localport_missing"; or return 0
    set -gu __localport_missing 1
    set -l exe (string escape -- $__localport_exe)
    if test -n "$__localport_root"
        __localport_say "localport: cannot run $exe, and PATH has no localport: this shell keeps the variables and forwards of "(string escape -- $__localport_root)
        __localport_say "hint: install localport again; or undo by hand: set -e $__localport_variables LOCALPORT_DIFF; the forwards end when the last shell that uses them exits"
    else
        __localport_say "localport: cannot run $exe, and PATH has no localport: the services of this directory are not started"
        __localport_say "hint: install localport again in a directory of PATH"
    end
end

# The functions below are called by the output of `localport export`. They keep the user's own variables in the shell: lists and flags,
# and variables that are not exported, are unknown to a program, and must not be exported to others. A universal variable is hidden by the
# global one, and needs no more.

# __localport_set NAME VALUE [update] exports a variable of the project. Without the third argument, what the user has by that name is
# saved first. A variable that cannot be set is named once.
function __localport_set
    if test (builtin count $argv) = 2
        if test "$__localport_undo" != 0
            set -e -g __localport_first_$argv[1] # of the previous visit
        else if set -q __localport_how_$argv[1]; and not set -q __localport_first_$argv[1]
            # Another hook, called at prompts only, has seen our first value and may put that back.
            for __localport_kind in our was how
                set -l __localport_from __localport_{$__localport_kind}_$argv[1]
                set -gu __localport_first{$__localport_kind}_$argv[1] $$__localport_from
            end
            set -gu __localport_first_$argv[1] 1
        end
        set -l __localport_how unset
        if set -q -g $argv[1]
            set __localport_how -gu
            set -q -gx $argv[1]; and set __localport_how -gx
            set -q -g --path $argv[1]; and set -a __localport_how --path
            set -gu __localport_was_$argv[1] $$argv[1]
        end
        set -gu __localport_how_$argv[1] $__localport_how
        builtin contains -- $argv[1] $__localport_names; or set -ga __localport_names $argv[1]
    end
    set -q __localport_how_$argv[1]; and set -gu __localport_our_$argv[1] $argv[2]
    if not set -gx $argv[1] $argv[2] 2>/dev/null; and not builtin contains -- $argv[1] $__localport_kept
        set -ga __localport_kept $argv[1]
        __localport_say "localport: $argv[1] keeps its value: it is read-only in this shell"
    end
end

# __localport_assign NAME [VALUE] exports a variable, or removes it.
function __localport_assign
    if set -q argv[2]
        set -gx $argv[1] $argv[2] 2>/dev/null
    else
        set -e -g $argv[1] 2>/dev/null
    end
    return 0
end

# __localport_restore NAME [VALUE] restores what __localport_set has saved. If that was in another shell, VALUE is the previous value;
# without it, the variable was not set.
function __localport_restore
    set -l __localport_how __localport_how_$argv[1]
    set -l __localport_was __localport_was_$argv[1]
    if set -q $__localport_how; and test "$$__localport_how" != unset
        set -e -g $argv[1] 2>/dev/null
        set $$__localport_how $argv[1] $$__localport_was
    else if set -q argv[2]
        set -gx $argv[1] $argv[2]
    else
        set -e -g $argv[1]
    end
end

# __localport_save_base NAME [VALUE] is called if another tool has set what __localport_set has saved: VALUE was there before; without it,
# nothing. __localport_restore_base NAME [VALUE] restores that.
function __localport_save_base
    set -l __localport_our __localport_our_$argv[1]
    set -gu __localport_firstour_$argv[1] $$__localport_our
    set -q __localport_first_$argv[1]; and return
    set -gu __localport_first_$argv[1] 1
    set -gu __localport_firstwas_$argv[1] $argv[2..-1]
    set -gu __localport_firsthow_$argv[1] unset
    set -q argv[2]; and set -gu __localport_firsthow_$argv[1] -gx
    return 0
end

function __localport_restore_base
    __localport_save_base $argv
    set -l __localport_first __localport_firstwas_$argv[1]
    set -gu __localport_was_$argv[1] $$__localport_first
    set __localport_first __localport_firsthow_$argv[1]
    set -gu __localport_how_$argv[1] $$__localport_first
    set -e -g __localport_first_$argv[1]
    __localport_restore $argv[1]
end

# __localport_compare_used compares the variables that [env] uses with their values at the last export.
function __localport_compare_used
    set -l __localport_now
    for __localport_name in $__localport_uses
        set -q $__localport_name
        set -a __localport_now $status"$$__localport_name"
    end
    test "$__localport_now" = "$__localport_seen"; or set __localport_why "variables $__localport_now"
end

# __localport_left is called when the shell has left a project. Another hook that was entered later may put back what it found: our
# values. __localport_undo_again undoes that at the next prompts, and forgets the variables then.
function __localport_left
    set __localport_undo 3
    for __localport_name in $__localport_names
        set -l __localport_first __localport_firstour_$__localport_name
        if set -q $__localport_first; and test "$$__localport_name" = "$$__localport_first"
            set -e -g __localport_first_$__localport_name # it is what the user has
        end
    end
end

function __localport_undo_again
    if test -n "$__localport_root"
        set __localport_undo 0
        return
    end
    for __localport_name in $__localport_names
        set -l __localport_our __localport_our_$__localport_name
        set -l __localport_first __localport_firstour_$__localport_name
        if not set -q -g $__localport_name
        else if set -q __localport_first_$__localport_name; and test "$$__localport_name" = "$$__localport_first"
            __localport_restore_base $__localport_name
        else if test "$$__localport_name" = "$$__localport_our"
            __localport_restore $__localport_name
        end
        test "$__localport_undo" = 1; and set -e -g __localport_{our,was,how,first,firstour,firstwas,firsthow}_$__localport_name
    end
    switch $__localport_undo
        case 3
            set __localport_undo 2
        case 2
            set __localport_undo 1
        case '*'
            set __localport_undo 0
            set -gu __localport_names
    end
    return 0
end

# __localport_compare_ours is called when direnv or mise has changed something. It finds out whether that may be one of our variables.
function __localport_compare_ours
    set __localport_tools "$DIRENV_DIFF$__MISE_DIFF"
    for __localport_name in $__localport_names
        set -l __localport_our __localport_our_$__localport_name
        if set -q __localport_first_$__localport_name; or test "$$__localport_name" != "$$__localport_our"
            set __localport_why "tools $__localport_tools"
            return
        end
    end
end

# __localport_watch NAME... stores the variables that [env] uses; the prompts compare them.
function __localport_watch
    set __localport_uses $argv
    set __localport_seen
    for __localport_name in $argv
        set -q $__localport_name
        set -a __localport_seen $status"$$__localport_name"
    end
    set __localport_tools "$DIRENV_DIFF$__MISE_DIFF"
    set -gu __localport_files # the stamps may be others
    set -gu __localport_expected ''
end

# test has no -ef and -nt before 3.6.
if not test . -ef . 2>/dev/null
    builtin echo 'localport: the hook needs fish 3.6 or newer' >&2
    builtin functions --erase __localport_first_prompt __localport_at_prompt __localport_preexec __localport_cd
end
