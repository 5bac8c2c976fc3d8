package process

const pdeathsig = true
