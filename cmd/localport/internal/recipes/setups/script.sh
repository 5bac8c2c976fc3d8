# In a script, or before an agent's command: the forwards stay as long as the process that it works for, the agent or the script.
eval "$(localport env --lease)"
