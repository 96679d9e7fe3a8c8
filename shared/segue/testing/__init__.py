"""What tests need, the users' own included: fakes that record, emulators, sound of known truth."""
