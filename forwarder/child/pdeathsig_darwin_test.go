package child

const pdeathsig = false
