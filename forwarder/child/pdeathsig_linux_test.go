package child

const pdeathsig = true
