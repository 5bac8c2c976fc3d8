package process

const pdeathsig = false
