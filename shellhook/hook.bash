# LocalPort's hook for bash, 3.2 and newer: eval "$(localport hook bash)"
#
# A prompt where nothing changed starts no process: it reads one line and compares the ages of files, with builtins
# only. bash has no event for cd, so that of two cds in one command line only the last directory is seen, except with --on-cd. Before bash 4.3,
# ages are compared in whole seconds.
#
# The line above sets __localport_exe. `localport export` sets the first four variables below and __localport_retry; none
# is exported. \builtin, because a user may have an alias or a function of that name; \return and \local must not be called by a function of
# the user that is named builtin.

# shellcheck disable=SC2154 # __localport_exe
if [[ ${__localport_shell-} != "$$" ]]; then
  __localport_root='' # the project that this shell is in
  __localport_dir=''  # where LocalPort keeps what prompts compare with
  __localport_line='' # the line in $__localport_dir/prompt, at the last export
  __localport_told='' # hash of the error that this shell last printed
  __localport_pwd=''  # the directory of the last prompt; '' before the first
  __localport_why=''  # why this prompt must run an export; '' if it need not
  __localport_tried='' # the last reason for an export, and how many exports did not resolve it
  __localport_tries=0
  __localport_wait=''
  __localport_unfinished=''
  __localport_recheck='' # 1 if an export at a cd found variables missing that another hook may set before the prompt
  __localport_not_wrapped='' # functions of the user of which --on-cd has said that they stay
  __localport_variables=''
  __localport_above=() # paths of configs that would be found if they appeared
  # The first of these paths.
  __localport_above1='' __localport_above2='' __localport_above3='' __localport_above4='' __localport_above5='' __localport_above6='' __localport_above7=''
  __localport_file=''     # $__localport_dir/prompt; '' if the files have to be listed again
  __localport_expected='' # the content of that file whose process was last found alive
  __localport_read_only='' # 1 if it was said that the hook cannot be installed
  __localport_shell=$$
fi
if [[ -z ${__localport_undo-} ]]; then # also if an older hook set the others
  __localport_diff=''  # a copy of LOCALPORT_DIFF
  # The names of the variables that __localport_set has saved: as code in __localport_was_NAME, our value in __localport_our_NAME. What was there
  # before another tool has set that, or before a list was changed, is in __localport_first_NAME, our value then in __localport_firstour_NAME.
  __localport_names=''
  __localport_kept=''  # names of which it was said that they keep their value
  __localport_undo=0   # at how many prompts after leaving what another hook puts back is undone
  __localport_uses=''  # the names of the variables that [env] uses
  __localport_seen=''  # their values at the last export
fi
__localport_unfinished=${__localport_unfinished-} # directories, each with a newline, of exports that may have entered a project before they were interrupted
if [[ -z ${__localport_above1+x} ]]; then # an older hook set the others
  __localport_pwd='' __localport_above1='' __localport_file='' __localport_expected='' __localport_recheck=${__localport_recheck-}
fi
__localport_tools=${__localport_tools-} # what direnv and mise had changed at the last export
__localport_variables=${__localport_variables-}   # the names of the project's variables in this shell
if [[ -z ${__localport_wait-} ]]; then # also if an older hook set the others
  __localport_retry='' # what `localport export` has to retry; it is passed back
  __localport_code=0   # exit status of the last export
  __localport_wait=0   # seconds until it is repeated; 0: it is not repeated
  __localport_since=0  # when it ran, in $SECONDS
fi

# __localport_prompt checks whether something has changed. As an element of its own in PROMPT_COMMAND it need not return the status
# that it was called with, which would run an ERR trap: bash restores $?, PIPESTATUS and $_ after each element. Its first line is the
# only one that set -x shows, and must not change $? before it is saved.
__localport_prompt() {
  [[ ${__localport_status:=$?}$- != $__localport_options ]] ||
    { \local -; \set +aETuvx; \builtin export -n __localport_status; } 2>/dev/null
  if __localport_check || [[ $- == *e* ]]; then # as a condition, so that neither set -e nor an ERR trap counts in it
    __localport_status=''
  else
    \set -- "$__localport_status"
    __localport_status=''
    \return "$1"
  fi
}

# __localport_check calls __localport_run unless that would find nothing to do, as at nearly all prompts. It is short, because bash copies a
# function's body at each call. Each path is in a variable of its own and tested with [[ ]]: joining words to a path takes as long as the test,
# and [ or an array several times as long. With nocasematch, "x != X" is false, and __localport_run decides: == could take another directory
# for the same.
__localport_check() {
  if [[ -n $__localport_arrays && $BASH_SUBSHELL$__localport_undo$__localport_wait$__localport_tried$__localport_uses$__localport_recheck${bash_preexec_imported-}${__bp_imported-}${__vsc_initialized-}${DIRENV_DIFF-}${__MISE_DIFF-} == 000 &&
    ${PWD-} == "$__localport_pwd" && x != X && ${PROMPT_COMMAND[@]: -1} == __localport_prompt && $PROMPT_COMMAND != __localport_prompt &&
    ( ! -e ./.localport.toml || . -ef $__localport_root ) && ( -z $__localport_root || -f $__localport_file ) ]] &&
    { [[ -z $__localport_above1 ]] || ! __localport_has_new_config; }; then
    [[ -n $__localport_root ]] || \return 0
    \builtin read -rN 99 __localport_now <"$__localport_file"
    [[ $__localport_now == "$__localport_expected" && ! $__localport_process -nt $__localport_file && -e $__localport_process/exe &&
      ! $__localport_config -nt $__localport_config_stamp && ! $__localport_config -ot $__localport_config_stamp && ! -e $__localport_new1 && ! -e $__localport_new2 &&
      ( -z $__localport_old1 || ! $__localport_old1 -nt $__localport_stamp1 && ! $__localport_old1 -ot $__localport_stamp1 ) &&
      ( -z $__localport_old2 || ! $__localport_old2 -nt $__localport_stamp2 && ! $__localport_old2 -ot $__localport_stamp2 ) ]] && \return 0
  fi
  __localport_run
}

# __localport_run returns 0 if the prompt hooks that follow do not need the status of the command line: bash restores it for them. It is one
# function with few commands, because a call costs as much as two tests, and a test more than what it compares.
__localport_run() {
  [[ $BASH_SUBSHELL$__localport_undo == 00 ]] || { [[ $BASH_SUBSHELL == 0 ]] || \return; __localport_undo_again; }
  __localport_why=''
  if ! \builtin [ "${PWD-}" = "$__localport_pwd" ]; then
    __localport_find_root
  elif [[ -e ./.localport.toml && ! . -ef $__localport_root ]]; then
    __localport_why="enter $PWD"
    [[ . -ef $PWD ]] || __localport_why="enter moved $PWD" # so that the reason differs when the directory is back
  elif [[ -n $__localport_above1 ]] && __localport_has_new_config; then
    __localport_find_root # a config has appeared
  fi
  [[ -z $__localport_root || -n $__localport_why ]] || __localport_compare
  if [[ -z $__localport_why && $__localport_uses$__localport_recheck$__localport_wait${DIRENV_DIFF-}${__MISE_DIFF-} == 0 ]]; then
    __localport_tried=''
  else
    __localport_look_further
  fi
  [[ -n $__localport_arrays && -z ${bash_preexec_imported-}${__bp_imported-}${__vsc_initialized-} && ${PROMPT_COMMAND[@]: -1} == __localport_prompt &&
    $PROMPT_COMMAND != __localport_prompt ]] || __localport_settle
}

# __localport_look_further compares the variables that [env] uses, and runs an export if that is due.
__localport_look_further() {
  if [[ -z $__localport_why && -n $__localport_uses ]]; then
    __localport_read_used
    [[ $__localport_now == "$__localport_seen" ]] || __localport_why="variables $__localport_now"
  fi
  if [[ -z $__localport_why && -n $__localport_root ]]; then
    \builtin [ "${DIRENV_DIFF-}${__MISE_DIFF-}" = "$__localport_tools" ] || __localport_compare_ours
  fi
  [[ -n $__localport_why || -z $__localport_recheck || -n ${__localport_at_cd-} ]] || __localport_why=recheck
  if [[ -z $__localport_why && $__localport_wait != 0 ]]; then
    if [[ $__localport_code == 0 ]]; then
      __localport_wait=0 # it resolved the reason
    elif __localport_is_due; then
      __localport_why=again
    fi
  fi
  if [[ -z $__localport_why ]]; then
    __localport_tried=''
  else
    __localport_export
  fi
}

# __localport_settle makes this hook the last one, if it is not: one that runs after it could change what has been compared. In an older
# bash, it undoes what the user's set -a has exported.
__localport_settle() {
  [[ $- != *a* ]] || __localport_unexport
  [[ -n $__localport_arrays ]] || \return
  if [[ -z ${bash_preexec_imported-}${__bp_imported-} || ${precmd_functions[@]: -1} != __localport_prompt ]]; then
    __localport_move
  fi
  [[ ${PROMPT_COMMAND[@]: -1} == __localport_prompt ]]
}

# __localport_move makes this hook the last element, also where another has put its command into the same string. Nothing is moved if a
# third program calls this hook, or if PROMPT_COMMAND is read-only. bash-preexec takes whatever runs after its own last command for a
# command of the user, so that with it the hook is one of precmd_functions. So does the shell integration of VS Code: with that, the hook is
# one of the commands that it has found in PROMPT_COMMAND and runs itself.
__localport_move() {
  \local __localport_text __localport_found=''
  \local -a __localport_all
  __localport_all=()
  if [[ -n ${bash_preexec_imported-}${__bp_imported-} && ${precmd_functions[*]-} == *__localport_prompt* ]]; then
    for __localport_text in "${precmd_functions[@]}"; do
      [[ $__localport_text == __localport_prompt ]] || __localport_all+=("$__localport_text")
    done
    precmd_functions=("${__localport_all[@]}" __localport_prompt)
    \return
  fi
  [[ -z ${bash_preexec_imported-}${__bp_imported-} || ${PROMPT_COMMAND[*]-} == *__bp_interactive_mode* ]] || \return
  [[ ${PROMPT_COMMAND@a} != *r* ]] || \return
  for __localport_text in "${PROMPT_COMMAND[@]}"; do
    if [[ $__localport_text == *__localport_prompt* ]]; then
      __localport_found=1
      __localport_text=$__localport_newline$__localport_text$__localport_newline
      __localport_text=${__localport_text/[;$'\n']__localport_prompt[;$'\n']/$__localport_newline}
      __localport_text=${__localport_text/[;$'\n'] __localport_prompt[;$'\n']/$__localport_newline}
      [[ $__localport_text != *__localport_prompt* ]] || \return # it is part of another command
      __localport_text=${__localport_text#$__localport_newline}
      __localport_text=${__localport_text%$__localport_newline}
      [[ -n $__localport_text ]] || \continue
    fi
    [[ $__localport_text != __vsc_prompt_cmd ]] || __localport_text=__vsc_prompt_cmd_original # which runs what was found
    __localport_all+=("$__localport_text")
  done
  [[ -n $__localport_found ]] || \return
  [[ ${#__localport_all[@]} != 0 ]] || __localport_all=('') # which a later PROMPT_COMMAND=… replaces
  if [[ -n ${bash_preexec_imported-}${__bp_imported-} ]]; then
    precmd_functions+=(__localport_prompt)
    PROMPT_COMMAND=("${__localport_all[@]}")
  elif [[ -n ${__vsc_initialized-} && " ${__localport_all[*]} " == *" __vsc_prompt_cmd"* ]]; then
    __vsc_original_prompt_command+=(__localport_prompt)
    PROMPT_COMMAND=("${__localport_all[@]}")
  else
    PROMPT_COMMAND=("${__localport_all[@]}" __localport_prompt)
  fi
}

# __localport_find_root walks up from a new directory, and lists the configs that would be found if they appeared: those in the directories above
# this one, up to the project's root.
__localport_find_root() {
  __localport_above=()
  __localport_walk_up
  __localport_above1=${__localport_above[0]-} __localport_above2=${__localport_above[1]-} __localport_above3=${__localport_above[2]-}
  __localport_above4=${__localport_above[3]-} __localport_above5=${__localport_above[4]-} __localport_above6=${__localport_above[5]-}
  __localport_above7=${__localport_above[6]-}
}

# __localport_walk_up walks up. ./.. is physical, like the project's root.
__localport_walk_up() {
  \local __localport_at=. __localport_last="$__localport_pwd" __localport_hit=''
  __localport_pwd=${PWD-}
  while [[ -e $__localport_at ]]; do
    if [[ -e $__localport_at/.localport.toml ]]; then
      [[ ! $__localport_at -ef $__localport_root ]] || \return 0
      __localport_why="enter ${PWD-}" __localport_hit=1
    fi
    [[ $__localport_at == . ]] || __localport_above+=("$__localport_at/.localport.toml")
    [[ -z $__localport_hit ]] || \return 0
    [[ ! $__localport_at -ef / ]] || \break
    __localport_at+=/..
  done
  if [[ -n $__localport_root$__localport_unfinished ]]; then
    __localport_why="leave $__localport_pwd"
  elif [[ -z $__localport_last && -n ${LOCALPORT_DIFF-} ]]; then
    __localport_why=inherited
  fi
}

# __localport_has_new_config tells whether one of the configs that __localport_find_root has listed has appeared.
__localport_has_new_config() {
  [[ ! -e $__localport_above1 && ! -e $__localport_above2 && ! -e $__localport_above3 && ! -e $__localport_above4 && ! -e $__localport_above5 &&
    ! -e $__localport_above6 && ! -e $__localport_above7 ]] || \return 0
  [[ -n $__localport_above7 ]] || \return
  \local __localport_at
  for __localport_at in ${__localport_above[@]+"${__localport_above[@]}"}; do
    [[ ! -e $__localport_at ]] || \return 0
  done
  \return 1
}

# __localport_compare compares the project with its state at the last export: the line "N PID START", the files, and
# whether the process PID still runs. Without locals: they cost more than what they hold.
__localport_compare() {
  if [[ -z $__localport_dir ]]; then
    [[ -e $__localport_root/.localport.toml ]] || __localport_why="file $PWD"
    \return
  fi
  [[ -n $__localport_file ]] || __localport_list_files
  __localport_now=''
  if [[ -f $__localport_file ]]; then
    IFS='' \builtin read -r __localport_now <"$__localport_file"
  fi
  if [[ $__localport_now != "$__localport_line" ]]; then
    __localport_why="line $__localport_now $PWD"
    \return
  fi
  if __localport_is_edited; then
    __localport_why="file $PWD"
    \return
  fi

  # The process of this line was alive before, and no other has had its pid since: /proc/PID is as old as its
  # first use. A zombie has no exe.
  [[ -z $__localport_expected || $__localport_process -nt $__localport_file || ! -e $__localport_process/exe ]] || \return
  [[ $__localport_pid == [1-9]* ]] || \return
  if __localport_is_alive 2>/dev/null; then
    __localport_expected=$__localport_line$__localport_newline
  else
    __localport_why="gone $__localport_line $PWD"
  fi
}

# __localport_list_files stores the paths of what prompts compare, and splits the line. A file that had a stamp at the last export, because it
# existed, is in __localport_old1 or __localport_old2, one that had none in __localport_new1 or __localport_new2.
__localport_list_files() {
  __localport_start=${__localport_line##* }
  __localport_pid=${__localport_line% *}
  __localport_pid=${__localport_pid##* }
  __localport_process=/proc/$__localport_pid
  __localport_expected=''
  __localport_file=$__localport_dir/prompt
  __localport_config=$__localport_root/.localport.toml __localport_config_stamp=$__localport_dir/stamp.config
  __localport_new1=$__localport_root/.localport.local.toml __localport_old1='' __localport_stamp1=$__localport_dir/stamp.local
  __localport_new2=$__localport_root/.env __localport_old2='' __localport_stamp2=$__localport_dir/stamp.env
  [[ ! -e $__localport_stamp1 ]] || __localport_old1=$__localport_new1 __localport_new1=''
  [[ ! -e $__localport_stamp2 ]] || __localport_old2=$__localport_new2 __localport_new2=''
}

# __localport_is_edited tells whether one of the project's files has changed since its stamp was written. In bash a missing file is older
# than any other.
__localport_is_edited() {
  [[ $__localport_config -nt $__localport_config_stamp || $__localport_config -ot $__localport_config_stamp || -e $__localport_new1 || -e $__localport_new2 ||
    $__localport_old1 -nt $__localport_stamp1 && -n $__localport_old1 || $__localport_old1 -ot $__localport_stamp1 && -n $__localport_old1 ||
    $__localport_old2 -nt $__localport_stamp2 && -n $__localport_old2 || $__localport_old2 -ot $__localport_stamp2 && -n $__localport_old2 ]]
}

# __localport_is_alive tells whether the process __localport_pid runs, and started at __localport_start. That
# is field 22 of /proc/PID/stat: 19 fields between it and field 2, a name in parentheses that may hold anything. Field
# 3 is the state.
__localport_is_alive() {
  \local IFS=' '
  if [[ ! -e /proc/$$/stat ]]; then
    \builtin kill -0 "$__localport_pid"
    \return
  fi
  __localport_now=''
  \builtin read -r -d '' __localport_now <"/proc/$__localport_pid/stat"
  __localport_now=${__localport_now%% "$__localport_start" *}
  while [[ $__localport_now == *')'* ]]; do
    __localport_now=${__localport_now#*)}
  done
  # shellcheck disable=SC2086 # to be split, at IFS
  \set -- $__localport_now
  [[ $# == 19 && $1 != [ZX] ]]
}

# __localport_is_due tells whether a failed export is to be repeated now, also if the clock was set back.
__localport_is_due() {
  [[ $__localport_code == missing || ${SECONDS-0} -lt $__localport_since || ${SECONDS-0} -ge $((__localport_since + __localport_wait)) ]]
}

# __localport_export runs `localport export`. If that fails once, or does not resolve the reason three times (something may
# have changed meanwhile), it is repeated after 5, 10, … 60 s with a limit of 200 ms. Status 3 and 4, a config that is
# invalid or not allowed, are final: the hook detects what changes them.
__localport_export() {
  \local __localport_out='' __localport_again='' __localport_earlier="$__localport_unfinished" __localport_before __localport_result __localport_found="$__localport_root"
  if [[ $__localport_why != "$__localport_tried" ]]; then
    __localport_tried=$__localport_why
    __localport_tries=0
  fi
  if [[ $__localport_tries == 3 ]]; then
    [[ $__localport_wait != 0 ]] && __localport_is_due || \return
    __localport_again=1
  fi
  if ! __localport_find_program; then
    __localport_report_missing
    \return
  fi
  __localport_missing=''
  [[ $__localport_why != again || $__localport_code == missing ]] || __localport_again=1
  # What holds if the user interrupts what follows: it is repeated as after a failure.
  __localport_before=$__localport_tries
  __localport_tries=3
  __localport_code=130
  __localport_wait=$((__localport_wait < 60 ? __localport_wait + 5 : 60))
  __localport_since=${SECONDS-0}
  [[ $__localport_newline$__localport_unfinished == *"$__localport_newline${PWD-}$__localport_newline"* ]] ||
    __localport_unfinished+=${PWD-}$__localport_newline
  [[ $- != *a* ]] || __localport_unexport
  __localport_out=$([[ -z $__localport_diff ]] || \builtin export LOCALPORT_DIFF="$__localport_diff"
    \builtin exec "$__localport_program" export bash --pid "$$" \
    --root "$__localport_root" --line "$__localport_line" --told "$__localport_told" --retry "$__localport_retry" \
    --saves --tools ${__localport_at_cd:+"--cd"} ${__localport_earlier:+"--unfinished=$__localport_earlier"} ${__localport_again:+"--limit=200ms"} </dev/null) &&
    __localport_result=0 || __localport_result=$?
  \builtin eval "$__localport_out"
  [[ $__localport_found == "$__localport_root" ]] || __localport_find_root
  __localport_code=$__localport_result
  [[ $__localport_code != [034] ]] || __localport_unfinished='' # also if an older localport does not set it
  if [[ $__localport_code == 0 && $__localport_before -lt 2 ]]; then
    __localport_tries=$((__localport_before + 1))
    __localport_wait=0
  elif [[ $__localport_code == [34] ]]; then
    __localport_wait=0
  else
    __localport_since=${SECONDS-0}
  fi
  # Status 3 and 4 are not final if the directory was moved meanwhile: when it is moved back, the reason is the same, and must count again.
  [[ $__localport_code != [34] || $__localport_why == 'enter moved '* || . -ef $PWD && ( -z $__localport_root || -e $__localport_root ) ]] || __localport_tried=''
  # Another edit is the same reason as this one, if this one has been seen.
  if [[ $__localport_why == 'file '* && $__localport_code == [034] && -n $__localport_dir ]]; then
    __localport_list_files
    __localport_is_edited || __localport_tried=''
  fi
}

# __localport_find_program sets __localport_program to localport: at the path that the hook was installed with or, if an upgrade has
# removed that, the first one in PATH.
__localport_find_program() {
  __localport_program=$__localport_exe
  [[ ! -x $__localport_program ]] || \return 0
  \local __localport_rest="${PATH-}:" __localport_at
  while [[ -n $__localport_rest ]]; do
    __localport_at=${__localport_rest%%:*}
    __localport_rest=${__localport_rest#*:}
    __localport_program=$__localport_at/localport
    [[ $__localport_at != /* || ! -f $__localport_program || ! -x $__localport_program ]] || \return 0
  done
  \return 1
}

# __localport_report_missing says once that there is no program. The next prompts look for it, without a process.
__localport_report_missing() {
  __localport_code=missing __localport_wait=1 __localport_tries=0
  [[ -z ${__localport_missing-} ]] || \return 0
  __localport_missing=1
  if [[ -n $__localport_root ]]; then
    \builtin printf 'localport: cannot run %q, and PATH has no localport: this shell keeps the variables and forwards of %q\n' \
      "$__localport_exe" "$__localport_root" >&2
    \builtin printf 'hint: install localport again; or undo by hand: unset -v %s; the forwards end when the last shell that uses them exits\n' \
      "${__localport_variables:+$__localport_variables }LOCALPORT_DIFF" >&2
  else
    \builtin printf 'localport: cannot run %q, and PATH has no localport: the services of this directory are not started\n' "$__localport_exe" >&2
    \builtin printf '%s\n' 'hint: install localport again in a directory of PATH' >&2
  fi
}

# The functions below are called by the output of `localport export`. They keep the user's own variables as code in the shell: not exported
# ones, attributes and arrays are unknown to a program, and must not be exported to others.

# __localport_set NAME VALUE [update] exports a variable of the project. Without the third argument, what the user has by that name is
# saved first. A variable that cannot be set is named once.
__localport_set() {
  \local __localport_text='' __localport_flags=''
  __localport_define "$1"
  if [[ $__localport_text == 'declare -'* ]]; then
    __localport_flags=${__localport_text#declare -}
    __localport_flags=${__localport_flags%% *}
  fi
  if [[ $__localport_flags == *r* ]]; then
    __localport_report_kept "$1"
    \return
  fi
  if [[ $# == 2 ]]; then
    if [[ $__localport_undo != 0 ]]; then
      \builtin unset -v "__localport_first_$1" # of the previous visit
    elif [[ " $__localport_names " == *" $1 "* ]]; then
      __localport_keep_first "$1"
    fi
    [[ " $__localport_names " == *" $1 "* ]] || __localport_names+=" $1"
    \builtin printf -v "__localport_was_$1" %s "$__localport_text"
  fi
  [[ " $__localport_names " != *" $1 "* ]] || \builtin printf -v "__localport_our_$1" %s "$2"
  case $__localport_flags in
    '' | - | x) ;;
    *n*) \builtin unset -n "$1" ;;
    *) \builtin unset -v "$1" ;;
  esac
  \builtin export "$1=$2"
}

# __localport_report_kept says once that the variable NAME is read-only.
__localport_report_kept() {
  [[ " $__localport_kept " != *" $1 "* ]] || \return 0
  __localport_kept+=" $1"
  \builtin printf '%s\n' "localport: $1 keeps its value: it is read-only in this shell" >&2
}

# __localport_keeps NAME tells whether the variable is read-only, and says so.
__localport_keeps() {
  \local __localport_text=''
  __localport_define "$1"
  [[ $__localport_text == 'declare -'* ]] || \return
  __localport_text=${__localport_text#declare -}
  [[ ${__localport_text%% *} == *r* ]] || \return
  __localport_report_kept "$1"
}

# __localport_assign NAME [VALUE] exports a variable, or removes it.
__localport_assign() {
  ! __localport_keeps "$1" || \return 0
  if [[ $# == 2 ]]; then
    \builtin export "$1=$2"
  else
    \builtin unset -v "$1"
  fi
}

# __localport_define sets __localport_text to the code that defines the variable NAME as it is; '' if there is none. Before bash 5.1, and for
# a reference to another variable, that takes a process.
__localport_define() {
  if [[ -z $__localport_arrays ]] || \builtin [ -R "$1" ]; then # [[ -R ]] is a syntax error before bash 4.3
    __localport_text=$(\builtin declare -p "$1" 2>/dev/null) || :
    __localport_text=${__localport_text#declare -- }
  else
    \builtin eval "__localport_text=\${$1[@]@A}"
  fi
}

# __localport_restore NAME [VALUE] restores what __localport_set has saved. If that was in another shell, VALUE is the previous value;
# without it, the variable was not set.
__localport_restore() {
  ! __localport_keeps "$1" || \return 0
  \local __localport_text="__localport_was_$1"
  __localport_text=${!__localport_text-}
  if [[ -z $__localport_text && $# == 2 ]]; then
    \builtin export "$1=$2"
  elif [[ -z $__localport_text ]]; then
    \builtin unset -v "$1"
  elif [[ $__localport_text == 'declare -x '* ]]; then
    \builtin eval "\\builtin export ${__localport_text#declare -x }"
  else
    \builtin unset -v "$1"
    if [[ $__localport_text == 'declare -'* && -z $__localport_options ]]; then # no declare -g before 4.2
      # Before 4.4, an array is printed in quotes: declare -a NAME='([0]="…")'.
      [[ $__localport_text != "declare -a"*" $1='("* ]] || \builtin eval "__localport_text==${__localport_text#*=}"
      \builtin eval "$1=${__localport_text#*=}"
    elif [[ $__localport_text == 'declare -'* ]]; then # two statements: \builtin takes no array as an argument
      __localport_text=${__localport_text#declare }
      \builtin declare -g "${__localport_text%% *}" "$1"
      __localport_text=${__localport_text#* "$1"}
      [[ -z $__localport_text ]] || \builtin eval "$1$__localport_text"
    else
      \builtin eval "$__localport_text"
    fi
  fi
}

# __localport_keep_first NAME keeps what __localport_set has saved, unless it has kept that already: another tool may restore our value, which
# it has seen.
__localport_keep_first() {
  \local __localport_text="__localport_first_$1" __localport_was="__localport_was_$1" __localport_ours="__localport_our_$1"
  [[ -z ${!__localport_text+x} ]] || \return 0
  \builtin printf -v "$__localport_text" %s "${!__localport_was-}"
  \builtin printf -v "__localport_firstour_$1" %s "${!__localport_ours-}"
}

# __localport_save_base NAME [VALUE] is called if another tool has set what __localport_set has saved: VALUE was there before; without it,
# nothing. __localport_restore_base NAME [VALUE] restores that.
__localport_save_base() {
  \local __localport_text="__localport_first_$1" __localport_ours="__localport_our_$1" __localport_was="__localport_was_$1" __localport_flags=x
  \builtin printf -v "__localport_firstour_$1" %s "${!__localport_ours-}"
  if [[ -n ${!__localport_text+x} ]]; then
    [[ $# != 1 ]] || ! __localport_is_exported_array "${!__localport_text}" || \builtin printf -v "$__localport_text" %s '' # the other tool removes it
    \return 0
  fi
  \builtin printf -v "$__localport_text" %s ''
  [[ $# != 1 ]] || \return 0
  if [[ -n $__localport_options && ${!__localport_was-} == 'declare -'*x* ]]; then # the attributes are the user's
    __localport_flags=${!__localport_was#declare -}
    __localport_flags=${__localport_flags%% *}
    [[ $__localport_flags != *[aAnr]* ]] || __localport_flags=x
  fi
  \builtin printf -v "$__localport_text" 'declare -%s %s=%q' "$__localport_flags" "$1" "$2"
}

__localport_restore_base() {
  __localport_save_base "$@"
  \local __localport_text="__localport_first_$1"
  \builtin printf -v "__localport_was_$1" %s "${!__localport_text}"
  \builtin unset -v "$__localport_text"
  __localport_restore "$1"
}

# __localport_is_exported_array CODE tells whether the code defines an exported array. No program sees one: a tool has exported the user's.
__localport_is_exported_array() {
  [[ $1 == 'declare -'[aA]* ]] || \return
  \set -- "${1#declare -}"
  [[ ${1%% *} == *x* ]]
}

# __localport_left is called when the shell has left a project. Another hook that was entered later may put back what it found: our
# values. __localport_undo_again undoes that at the next prompts, and forgets the variables then.
__localport_left() {
  \local __localport_text __localport_was __localport_first __localport_earlier_value IFS=' '
  __localport_undo=3
  for __localport_text in $__localport_names; do
    __localport_first="__localport_first_$__localport_text" __localport_earlier_value="__localport_firstour_$__localport_text"
    __localport_was="__localport_was_$__localport_text"
    if [[ -z ${!__localport_text+x} && ${DIRENV_DIFF-}${__MISE_DIFF-} != "$__localport_tools" ]]; then
      ! __localport_is_exported_array "${!__localport_was-}" || __localport_restore "$__localport_text" # the other tool leaves it to itself
    elif [[ ${!__localport_text-} == "${!__localport_earlier_value-}" ]]; then
      \builtin unset -v "$__localport_first" # it is the user's
    elif [[ ${!__localport_first-} == 'declare -'* && ${!__localport_first-} != 'declare -x '* ]]; then
      \builtin printf -v __localport_now %q "${!__localport_text-}"
      [[ ${!__localport_first} != "${!__localport_first%%=*}=$__localport_now" ]] || __localport_restore_base "$__localport_text" # the other tool has restored the value only
    fi
  done
}

__localport_undo_again() {
  \local __localport_text __localport_ours __localport_first __localport_earlier_value IFS=' '
  if [[ -n $__localport_root ]]; then
    __localport_undo=0
    \return
  fi
  # shellcheck disable=SC2086 # to be split
  \set -- $__localport_names
  for __localport_text; do
    __localport_ours="__localport_our_$__localport_text"
    __localport_first="__localport_first_$__localport_text" __localport_earlier_value="__localport_firstour_$__localport_text"
    if [[ -z ${!__localport_text+x} ]]; then
      :
    elif [[ -n ${!__localport_first+x} && ${!__localport_text} == "${!__localport_earlier_value-}" ]]; then
      __localport_restore_base "$__localport_text"
    elif [[ ${!__localport_text} == "${!__localport_ours-}" ]]; then
      __localport_restore "$__localport_text"
    fi
    [[ $__localport_undo != 1 ]] ||
      \builtin unset -v "$__localport_ours" "$__localport_first" "$__localport_earlier_value" "__localport_was_$__localport_text"
  done
  __localport_undo=$((__localport_undo - 1))
  [[ $__localport_undo != 0 ]] || __localport_names=''
}

# __localport_compare_ours is called when direnv or mise has changed something. It finds out whether that may be one of our variables.
__localport_compare_ours() {
  \local __localport_text __localport_ours __localport_first IFS=' '
  __localport_tools=${DIRENV_DIFF-}${__MISE_DIFF-}
  for __localport_text in $__localport_names; do
    __localport_ours="__localport_our_$__localport_text" __localport_first="__localport_first_$__localport_text"
    if [[ -n ${!__localport_first+x} || ${!__localport_text-} != "${!__localport_ours-}" ]]; then
      __localport_why="tools $__localport_tools"
      \return
    fi
  done
}

# __localport_watch NAME... stores the variables that [env] uses; the prompts compare them.
__localport_watch() {
  __localport_uses=$*
  __localport_read_used
  __localport_seen=$__localport_now
  __localport_tools=${DIRENV_DIFF-}${__MISE_DIFF-}
  __localport_file='' # the stamps may be others
}

# __localport_read_used sets __localport_now to the values of the variables in __localport_uses.
__localport_read_used() {
  \local __localport_name IFS=' '
  __localport_now=''
  for __localport_name in $__localport_uses; do
    __localport_now+="${!__localport_name+=}${!__localport_name-}$__localport_newline"
  done
}

# __localport_unexport removes our variables from the environment, to which set -a adds whatever is assigned.
__localport_unexport() {
  \builtin export -n "${!__localport_@}"
}

# __localport_install adds the hook where other prompt hooks have been added. The last one sees what the others have set. bash 5.1 and
# newer run each element of an array; others run only the first, a string, which a newline separates whatever it ends with. What
# follows in the start-up file may replace the first element, PROMPT_COMMAND=…, or extend it, PROMPT_COMMAND="$PROMPT_COMMAND; …": if there is no
# other, this hook is in the first two until the first prompt, which leaves the first one empty. The script that VS Code runs later looks at the
# first element only, and takes what runs after its own for a command of the user.
__localport_install() {
  \local __localport_text="${PROMPT_COMMAND[*]-} ${precmd_functions[*]-}"
  __localport_text+=" ${STARSHIP_PROMPT_COMMAND[*]-} ${__vsc_original_prompt_command[*]-}" # where these two keep what they have found
  [[ $__localport_text != *__localport_prompt* ]] || \return 0
  if [[ -n ${bash_preexec_imported-}${__bp_imported-} ]]; then
    precmd_functions+=(__localport_prompt)
    \return 0
  fi
  __localport_text=$(\builtin declare -p PROMPT_COMMAND 2>/dev/null) || :
  __localport_text=${__localport_text#declare -}
  if [[ ${__localport_text%% *} == *r* ]]; then
    [[ -n ${__localport_read_only-} ]] ||
      \builtin printf '%s\n' 'localport: the hook is not installed: PROMPT_COMMAND is read-only' \
        'hint: in the start-up file, move the line with "localport hook" before the one that makes PROMPT_COMMAND read-only' >&2
    __localport_read_only=1
  elif [[ -n $__localport_arrays && ${TERM_PROGRAM-} != vscode ]]; then
    [[ -n ${PROMPT_COMMAND[*]+x} ]] || PROMPT_COMMAND=(__localport_prompt)
    PROMPT_COMMAND+=(__localport_prompt)
  else # a terminal of VS Code may add its shell integration later, which takes over element 0 only
    # shellcheck disable=SC2178,SC2128 # element 0
    PROMPT_COMMAND="${PROMPT_COMMAND:+$PROMPT_COMMAND$__localport_newline}__localport_prompt"
  fi
  [[ -z $__localport_arrays || -z ${__vsc_initialized-} ]] || __localport_move
  [[ $- != *a* ]] || \builtin export -n PROMPT_COMMAND
}

__localport_options='' # the pattern of $- with an option that must not count in the hook; '' before bash 4.4, which has no local -
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)); then
  __localport_options='*[aETuvx]*'
fi
__localport_arrays='' # 1 if PROMPT_COMMAND may be an array
if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)); then
  __localport_arrays=1
fi
__localport_newline=$'\n'
__localport_status=''
__localport_install
__localport_unexport # also those inherited from a parent
if [[ $- == *a* ]]; then
  \builtin export -fn __localport_prompt __localport_check __localport_run __localport_look_further __localport_settle __localport_move __localport_install \
    __localport_find_root __localport_walk_up __localport_has_new_config __localport_compare __localport_list_files __localport_is_edited __localport_is_alive __localport_is_due __localport_export __localport_find_program \
    __localport_report_missing __localport_unexport __localport_set __localport_define __localport_restore \
    __localport_report_kept __localport_keeps __localport_assign __localport_keep_first __localport_save_base __localport_restore_base __localport_compare_ours \
    __localport_is_exported_array __localport_left __localport_undo_again __localport_watch __localport_read_used
fi
