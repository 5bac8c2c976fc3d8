# LocalPort's hook for PowerShell, 7.2 and newer: localport hook pwsh | Out-String | Invoke-Expression
#
# It has not been run in PowerShell: a parser has read it, and the rest follows the hook for elvish and PowerShell's documentation.
#
# A prompt where nothing changed starts no process: it reads the prompt's line, the times of the project's files and the supervisor's
# /proc/PID/stat. localport is started by .NET, so that $LASTEXITCODE stays the user's and arguments arrive as they are in every version. What
# PowerShell cannot do:
# - look at a cd before the next prompt;
# - before 7.5, hold a variable that is empty: it removes the variable;
# - hold values that are not UTF-8;
# - notice that the supervisor was killed where there is no /proc;
# - keep other hooks from putting back what they found before they were entered.
#
# The line above sets $global:__localport_exe. `localport export` sets __localport_root, _dir, _line, _told, _retry, _diff, _variables, _unfinished
# and _uses; none is exported. All variables are set here, because Set-StrictMode makes reading another one an error.

if (-not [IO.File]::Exists('/dev/null') -or $PSVersionTable.PSVersion -lt [version]'7.2') {
  throw 'localport: the hook needs PowerShell 7.2 or newer, on Linux or macOS'
}

if ($null -eq $ExecutionContext.SessionState.PSVariable.Get('global:__localport_root')) {
  $global:__localport_root = '' # the project that this shell is in
  $global:__localport_dir = '' # where LocalPort keeps what prompts compare with
  $global:__localport_line = '' # the line in $__localport_dir/prompt, at the last export
  $global:__localport_told = '' # hash of the error that this shell last printed
  $global:__localport_retry = '' # what `localport export` has to retry; it is passed back
  $global:__localport_diff = '' # a copy of LOCALPORT_DIFF
  $global:__localport_recheck = ''
  $global:__localport_variables = '' # the names of the project's variables in this shell
  $global:__localport_unfinished = '' # directories, each with a newline, of exports that may have entered a project before they were interrupted
  $global:__localport_uses = @() # the names of the variables that [env] uses
  $global:__localport_used = '' # their values at the last export
  $global:__localport_pwd = '' # the directory of the last prompt; '' before the first
  $global:__localport_physical = '' # the same without symbolic links
  $global:__localport_tried = '' # the last reason for an export, and how many exports did not resolve it
  $global:__localport_tries = 0
  $global:__localport_code = 0 # exit status of the last export
  $global:__localport_wait = 0 # seconds until it is repeated; 0: it is not repeated
  $global:__localport_since = 0 # when it ran
  $global:__localport_missing = $false # the message about the missing program has been shown
  $global:__localport_error = '' # the error of this hook that was shown last
}

# Without symbolic links, like the project's root. .NET resolves only the last name of a path.
function global:__localport_resolve([string] $dir) {
  if ($dir -ceq '/' -or $dir -ceq '') { return '/' }
  $parent = __localport_resolve ([IO.Path]::GetDirectoryName($dir))
  $path = [IO.Path]::Combine($parent, [IO.Path]::GetFileName($dir))
  $target = [IO.Directory]::ResolveLinkTarget($path, $true)
  if ($null -eq $target) { return $path }
  return __localport_resolve ($target.FullName)
}

# The directory of the nearest .localport.toml; '' if there is none.
function global:__localport_find_root([string] $dir) {
  for ($at = $dir; $at; $at = [IO.Path]::GetDirectoryName($at)) {
    if ([IO.File]::Exists([IO.Path]::Combine($at, '.localport.toml'))) { return $at }
  }
  return ''
}

function global:__localport_read_used {
  $values = foreach ($name in $global:__localport_uses) {
    $value = [Environment]::GetEnvironmentVariable($name)
    if ($null -eq $value) { 'unset' } else { '=' + $value }
  }
  return $values -join [char]0
}

# Seconds since the machine was started.
function global:__localport_now { return [long][Math]::Floor([Environment]::TickCount64 / 1000) }

function global:__localport_is_due {
  $now = __localport_now
  return $now -lt $global:__localport_since -or $now -ge $global:__localport_since + $global:__localport_wait
}

# Whether the process has ended. Field 22 of /proc/PID/stat is the start time, field 3 the state, field 2 a name in parentheses that may
# hold anything.
function global:__localport_is_gone([string] $id, [string] $start) {
  if ($id -ceq '0' -or -not [IO.File]::Exists('/proc/self/stat')) { return $false }
  try {
    $stat = [IO.File]::ReadAllText('/proc/' + $id + '/stat')
  } catch {
    return $true
  }
  $fields = $stat.Substring($stat.LastIndexOf(')') + 1).Split(' ')
  return $fields.Length -lt 21 -or $fields[1] -ceq 'Z' -or $fields[1] -ceq 'X' -or $fields[20] -cne $start
}

# Why the project needs an export; '' if it does not. A stamp has the time that the file had at the last export; the time of a file
# that does not exist is the year 1601.
function global:__localport_compare {
  $root, $dir, $here = $global:__localport_root, $global:__localport_dir, $global:__localport_pwd
  if ($dir -ceq '') {
    if ([IO.File]::Exists($root + '/.localport.toml')) { return '' }
    return 'file ' + $here
  }
  $line = ''
  if ([IO.File]::Exists($dir + '/prompt')) { $line = [IO.File]::ReadAllText($dir + '/prompt').TrimEnd([char]10) }
  if ($line -cne $global:__localport_line) { return 'line ' + $line + ' ' + $here }
  $times, $isChanged = '', $false
  foreach ($pair in ('.localport.toml', 'stamp.config'), ('.localport.local.toml', 'stamp.local'), ('.env', 'stamp.env')) {
    $time = [IO.File]::GetLastWriteTimeUtc($root + '/' + $pair[0]).Ticks
    if ($time -ne [IO.File]::GetLastWriteTimeUtc($dir + '/' + $pair[1]).Ticks) { $isChanged = $true }
    $times += ' ' + $time
  }
  if ($isChanged) { return 'file ' + $here + $times } # each edit is another reason
  if ($line -ceq '') { return '' }
  $words = $line.Split(' ') + '0' + '0'
  if (__localport_is_gone $words[1] $words[2]) { return 'gone ' + $line + ' ' + $here }
  return ''
}

# localport: at the path that the hook was installed with or, if an upgrade has removed that, the first one in PATH; '' if there is none.
function global:__localport_find_program {
  if ([IO.File]::Exists($global:__localport_exe)) { return $global:__localport_exe }
  foreach ($dir in ([string]$env:PATH).Split(':')) {
    if ($dir.StartsWith('/') -and [IO.File]::Exists($dir + '/localport')) { return $dir + '/localport' }
  }
  return ''
}

# Says once that there is no program. The next prompts look for it, without a process.
function global:__localport_report_missing {
  $global:__localport_code, $global:__localport_wait, $global:__localport_tries, $global:__localport_since = 'missing', 1, 0, 0
  if ($global:__localport_missing) { return }
  $global:__localport_missing = $true
  $cannot = 'localport: cannot run ' + $global:__localport_exe + ', and PATH has no localport:'
  if ($global:__localport_root -ceq '') {
    [Console]::Error.WriteLine($cannot + ' the services of this directory are not started')
    [Console]::Error.WriteLine('hint: install localport again in a directory of PATH')
  } else {
    $undo = foreach ($name in ($global:__localport_variables + ' LOCALPORT_DIFF').Trim().Split(' ')) { '$env:' + $name + ' = $null;' }
    [Console]::Error.WriteLine($cannot + ' this shell keeps the variables and forwards of ' + $global:__localport_root)
    [Console]::Error.WriteLine('hint: install localport again; or undo by hand: ' + ($undo -join ' ') + ' the forwards end when the last shell that uses them exits')
  }
}

# Runs localport in the shell's directory, which is not that of PowerShell's process, and returns its output and exit status.
function global:__localport_run([string] $program, [string[]] $arguments) {
  $info = [Diagnostics.ProcessStartInfo]::new($program)
  foreach ($argument in $arguments) { $info.ArgumentList.Add($argument) }
  $info.UseShellExecute = $false
  $info.RedirectStandardInput = $true
  $info.RedirectStandardOutput = $true
  $info.StandardOutputEncoding = [Text.UTF8Encoding]::new($false)
  $info.WorkingDirectory = $global:__localport_pwd
  $info.Environment['PWD'] = $global:__localport_pwd
  if ($global:__localport_diff -cne '') { $info.Environment['LOCALPORT_DIFF'] = $global:__localport_diff }
  $process = [Diagnostics.Process]::Start($info)
  try {
    $process.StandardInput.Close()
    $output = $process.StandardOutput.ReadToEnd()
    $process.WaitForExit()
    return @($output, $process.ExitCode)
  } finally {
    $process.Dispose()
  }
}

# Runs `localport export`. If that fails once, or does not resolve the reason three times (something may have changed meanwhile), it is
# repeated after 5, 10, … 60 s with a limit of 200 ms. Status 3 and 4, a config that is invalid or not allowed, are final: the hook detects
# what changes them. An interrupt ends it: what is set before the call is as after a failure.
function global:__localport_export([string] $why) {
  if ($why -cne $global:__localport_tried) { $global:__localport_tried, $global:__localport_tries = $why, 0 }
  $program = __localport_find_program
  if ($program -ceq '') {
    __localport_report_missing
    return
  }
  $global:__localport_missing = $false
  if ($global:__localport_tries -eq 3 -and ($global:__localport_wait -eq 0 -or -not (__localport_is_due))) { return }
  $arguments = @(
    'export', 'pwsh', "--pid=$PID", "--root=$global:__localport_root", "--line=$global:__localport_line", "--told=$global:__localport_told",
    "--retry=$global:__localport_retry", '--saves'
  )
  if ($global:__localport_tries -eq 3 -or ($why -ceq 'again' -and $global:__localport_code -cne 'missing')) { $arguments += '--limit=200ms' }
  if ($global:__localport_unfinished -cne '') { $arguments += '--unfinished=' + $global:__localport_unfinished }
  $directories = $global:__localport_unfinished.Split([char]10)
  if ($directories -cnotcontains $global:__localport_pwd) { $global:__localport_unfinished += $global:__localport_pwd + [char]10 }
  $lastWait, $lastTries = $global:__localport_wait, $global:__localport_tries
  $global:__localport_code, $global:__localport_wait, $global:__localport_tries = 1, [Math]::Max($lastWait, 5), 3
  $global:__localport_since = __localport_now
  $statements, $code = '', 1
  try {
    $statements, $code = __localport_run $program $arguments
  } catch {
    [Console]::Error.WriteLine('localport: cannot run ' + $program + ': ' + $_.Exception.Message)
  }
  $global:__localport_code = $code
  if ($code -eq 0 -and $lastTries -lt 2) {
    $global:__localport_tries, $global:__localport_wait = ($lastTries + 1), 0
  } elseif ($code -in 3, 4) {
    $global:__localport_wait = 0
  } else {
    $global:__localport_wait = [Math]::Min($lastWait + 5, 60)
  }
  if ($statements) { Microsoft.PowerShell.Utility\Invoke-Expression $statements }
  if ($code -in 0, 3, 4) { $global:__localport_unfinished = '' } # also if an older localport does not set it
  $global:__localport_used = __localport_read_used
}

function global:__localport_check {
  $here = $ExecutionContext.SessionState.Path.CurrentFileSystemLocation.ProviderPath
  $isFirst, $isNew = ($global:__localport_pwd -ceq ''), ($global:__localport_pwd -cne $here)
  if ($isNew) {
    $global:__localport_pwd = $here
    try { $global:__localport_physical = __localport_resolve $here } catch { $global:__localport_physical = $here }
  }
  # Each prompt walks up: a config may have appeared above or between.
  $root = __localport_find_root $global:__localport_physical
  $why = ''
  if ($root -cne $global:__localport_root) {
    $why = 'enter ' + $root + ' ' + $here
  } elseif ($isNew -and $root -ceq '' -and $global:__localport_unfinished -cne '') {
    $why = 'leave ' + $here
  } elseif ($isFirst -and $root -ceq '' -and $null -ne $env:LOCALPORT_DIFF) {
    $why = 'inherited'
  }
  if ($why -ceq '' -and $root -cne '') { $why = __localport_compare }
  if ($why -ceq '' -and $global:__localport_uses.Count -gt 0) {
    $used = __localport_read_used
    if ($used -cne $global:__localport_used) { $why = 'variables ' + $used }
  }
  if ($why -ceq '' -and $global:__localport_wait -ne 0) {
    if ($global:__localport_code -ceq 'missing') {
      $why = 'again'
    } elseif ($global:__localport_code -eq 0) {
      $global:__localport_wait = 0
    } elseif (__localport_is_due) {
      $why = 'again'
    }
  }
  if ($why -ceq '') { $global:__localport_tried = '' } else { __localport_export $why }
}

# An error of this hook is shown once and does not replace the user's prompt.
function global:__localport_prompt {
  try {
    __localport_check
  } catch {
    $text = 'localport: the hook: ' + $_.Exception.Message
    if ($text -cne $global:__localport_error) { [Console]::Error.WriteLine($text) }
    $global:__localport_error = $text
  }
}

# The previous prompt runs inside ours, with the $? and $LASTEXITCODE of the user's command, and so does the next command. $? cannot be
# assigned: a cmdlet that fails makes it $false. The variable of the closure keeps a hook that is loaded twice from calling itself.
if (-not ([string]$function:prompt).Contains('__localport_prompt')) {
  & {
    $previous = $function:prompt
    $prompt = {
      $succeeded = $?
      $status = $ExecutionContext.SessionState.PSVariable.GetValue('global:LASTEXITCODE')
      $null = __localport_prompt
      if (-not $succeeded) { Microsoft.PowerShell.Utility\Write-Error 'status' -ErrorAction Ignore }
      & $previous
      $global:LASTEXITCODE = $status
      if ($succeeded) { $null = 0 } else { Microsoft.PowerShell.Utility\Write-Error 'status' -ErrorAction Ignore }
    }
    Microsoft.PowerShell.Management\Set-Item -LiteralPath Function:global:prompt -Value $prompt.GetNewClosure()
  }
}
