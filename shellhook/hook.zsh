# LocalPort hook for zsh, 5.0 and newer: eval "$(localport hook zsh)"
#
# A prompt where nothing changed starts no process: it reads one line and compares the ages of files, with builtins
# only. So does a cd that crosses no border of a project.
#
# This is evaluated by emulate -R zsh -o no_aliases -c, which sticks to the functions: no option and no alias of the
# user counts in them. The line above sets __localport_exe. localport export sets the first four variables below and
# __localport_retry; none is exported.

if [[ ${__localport_shell-} != $$ ]]; then
  typeset -g __localport_root=""  # the project that this shell is in
  typeset -g __localport_dir=""   # where LocalPort keeps what prompts compare with
  typeset -g __localport_line=""  # the line in $__localport_dir/prompt, as last looked at
  typeset -g __localport_told=""  # what this shell was told already
  typeset -g __localport_pwd=""   # where the last prompt was; empty before the first
  typeset -g __localport_why=""   # why this prompt has to look; empty if it need not
  typeset -g __localport_tried="" # the last reason to look, and how often looking did not settle it
  typeset -g __localport_tries=0
  typeset -g __localport_alive="" # the line whose process was last found alive
  typeset -g __localport_wait=""
  typeset -g __localport_shell=$$
fi
if [[ -z ${__localport_wait-} ]]; then # also where an older hook set the others
  typeset -g __localport_retry="" # what localport export still has to do; it is handed back
  typeset -g __localport_code=0   # status of the last look
  typeset -g __localport_wait=0   # after how many seconds it is repeated; 0: it is not
  typeset -g __localport_since=0  # when it was made, by $SECONDS
fi
typeset -g +x -m "__localport_*"

# __localport_prompt is called before a prompt and after a cd, also after one in a subshell: (cd x).
__localport_prompt() {
  (( ! ZSH_SUBSHELL )) || return 0
  __localport_why=""
  if [[ $PWD != "$__localport_pwd" ]]; then
    __localport_moved
  elif [[ -e ./.localport.toml && ! . -ef $__localport_root ]]; then
    __localport_why="enter $PWD"
    [[ . -ef $PWD ]] || __localport_why="enter moved $PWD" # or the reason is the same when it is back
  fi
  if [[ -z $__localport_why && -n $__localport_root ]]; then
    __localport_stale
  fi
  if [[ -z $__localport_why && $__localport_wait != 0 ]]; then
    if [[ $__localport_code == 0 ]]; then
      __localport_wait=0 # it did settle it
    elif __localport_due; then
      __localport_why=again
    fi
  fi
  if [[ -z $__localport_why ]]; then
    __localport_tried=""
  else
    __localport_look
  fi
  return 0
}

# __localport_moved walks up from a new directory. ./.. is physical, like the root of the project.
__localport_moved() {
  local __localport_at=. __localport_last=$__localport_pwd
  __localport_pwd=$PWD
  while [[ -e $__localport_at ]]; do
    if [[ -e $__localport_at/.localport.toml ]]; then
      [[ $__localport_at -ef $__localport_root ]] || __localport_why="enter $PWD"
      return
    fi
    [[ ! $__localport_at -ef / ]] || break
    __localport_at+=/..
  done
  if [[ -n $__localport_root ]]; then
    __localport_why="leave $PWD"
  elif [[ -z $__localport_last && -n ${LOCALPORT_DIFF-} ]]; then
    __localport_why=inherited
  fi
}

# __localport_stale compares the project with what the last look saw of it: the line N PID START, the files, and
# whether the process PID still runs. $(<file) does not fork; a call of a function costs as much as seven tests.
__localport_stale() {
  local __localport_now="" __localport_file __localport_stamp
  if [[ -z $__localport_dir ]]; then
    [[ -e $__localport_root/.localport.toml ]] || __localport_why="file $PWD"
    return
  fi
  [[ ! -f $__localport_dir/prompt ]] || __localport_now=$(<$__localport_dir/prompt)
  if [[ $__localport_now != "$__localport_line" ]]; then
    __localport_why="line $__localport_now $PWD"
    return
  fi

  for __localport_file __localport_stamp in \
    .localport.toml stamp.config .localport.local.toml stamp.local .env stamp.env; do
    [[ -e $__localport_root/$__localport_file || -e $__localport_dir/$__localport_stamp ]] || continue
    __localport_file=$__localport_root/$__localport_file __localport_stamp=$__localport_dir/$__localport_stamp
    if [[ ! -e $__localport_file || ! -e $__localport_stamp ||
      $__localport_file -nt $__localport_stamp || $__localport_file -ot $__localport_stamp ]]; then
      __localport_why="file $PWD"
      return
    fi
  done

  # A process of this line was found alive, and there has been no other by its number since: /proc/PID is as old as its
  # first use. A zombie has no exe.
  argv=(${=__localport_line})
  [[ $__localport_line != "$__localport_alive" || /proc/$2 -nt $__localport_dir/prompt || ! -e /proc/$2/exe ]] || return
  [[ ${2-} == <1-> ]] || return
  if __localport_lives $2 $3 2>/dev/null; then
    __localport_alive=$__localport_line
  else
    __localport_why="gone $__localport_line $PWD"
  fi
}

# __localport_lives PID START: does that process run? Field 22 of /proc/PID/stat is the start time, field 3 the state;
# field 2 is a name in parentheses that may hold anything.
__localport_lives() {
  if [[ ! -e /proc/$$/stat ]]; then
    builtin kill -0 $1
    return
  fi
  local __localport_now=${"$(</proc/$1/stat)"##*\) }
  [[ $__localport_now == [^ZX]* && ${__localport_now[(ws: :)20]} == ${2-} ]]
}

# __localport_due: is the last look to be repeated now? Also where the user has set the clock back.
__localport_due() {
  (( SECONDS < __localport_since || SECONDS >= __localport_since + __localport_wait ))
}

# __localport_look asks LocalPort. What that cannot settle, once if it failed, or three times if not (what it saw may have
# changed behind its back), is asked about again after 5, 10, … 60 s, for 200 ms at most. Status 3 and 4, a config that is
# invalid or not allowed, is an answer: what changes it is seen.
__localport_look() {
  local __localport_out="" __localport_again=""
  if [[ $__localport_why != "$__localport_tried" ]]; then
    __localport_tried=$__localport_why
    __localport_tries=0
  fi
  [[ -x $__localport_exe ]] || return
  if [[ $__localport_tries == 3 ]]; then
    [[ $__localport_wait != 0 ]] && __localport_due || return
    __localport_again=1
  fi
  [[ $__localport_why != again ]] || __localport_again=1
  __localport_code=0
  __localport_out=$("$__localport_exe" export zsh --pid $$ \
    --root "$__localport_root" --line "$__localport_line" --told "$__localport_told" --retry "$__localport_retry" \
    ${__localport_again:+--limit=200ms} </dev/null) || __localport_code=$?
  if (( __localport_code == 0 && __localport_tries < 2 )); then
    (( ++__localport_tries ))
    __localport_wait=0
  elif [[ $__localport_code == [34] ]]; then
    __localport_tries=3
    __localport_wait=0
  else
    __localport_tries=3
    __localport_wait=$(( __localport_wait < 60 ? __localport_wait + 5 : 60 ))
    __localport_since=$SECONDS
  fi
  builtin eval "$__localport_out"
}

# First, so that the prompts of others see the variables of the project.
typeset -ga precmd_functions chpwd_functions
precmd_functions=(__localport_prompt ${precmd_functions:#__localport_prompt})
if [[ -o interactive ]]; then
  chpwd_functions=(__localport_prompt ${chpwd_functions:#__localport_prompt})
fi
